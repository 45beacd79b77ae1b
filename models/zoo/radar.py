"""`water-sar` and `flood-sar`: open water and floods in Sentinel-1 and other radar images, through clouds and at night."""

from __future__ import annotations

from typing import Any

from earthloom.models.cards.card import BEFORE, PERMANENT_WATER, ModelCard
from earthloom.models.cards.file import canonical
from earthloom.models.zoo.disaster import FLOOD_CLASSES
from earthloom.models.zoo.entry import ZooEntry
from earthloom.models.zoo.rules import LAND_AND_WATER

_CITATION = (
    "Twele, A., Cao, W., Plank, S., Martinis, S. (2016): Sentinel-1-based flood mapping: a fully automated processing chain. "
    "International Journal of Remote Sensing 37, 2990-3004. Chini, M., Hostache, R., Giustarini, L., Matgen, P. (2017): A "
    "hierarchical split-based approach for parametric thresholding of SAR images: flood inundation as a test case. IEEE "
    "Transactions on Geoscience and Remote Sensing 55, 6975-6988. Otsu, N. (1979): A threshold selection method from "
    "gray-level histograms. IEEE Transactions on Systems, Man, and Cybernetics 9, 62-66."
)
_LIMITS = (
    "Water roughened by wind is missed; roads, runways, dry sand and radar shadow are as dark as water. Flooded forests and "
    "towns are bright and become dry. It was scored on grey-value pictures, because no calibrated scene with a reference was "
    "available; two kinds of fields may be taken for land and water."
)
_SMOOTH_PX = 5
_FAR_DB = 200.0  # so that no valid value is 0 to the network


def _card(
    name: str, variant: str, quantities: tuple[str, ...], *, mean: float, beside: str = "", **rules: Any
) -> ModelCard:
    """The card of one date, or of one and what is `beside` it: the earlier date's band or a map of permanent water."""
    what, note = "Open water in a radar image", ""
    if beside:
        what = "Flooded ground between two radar images"
        note = (
            "Ground that was already dark and has become darker by a quarter of the contrast between land and water is "
            "flooded, so both dates must have the same scale: one orbit, one calibration. With a single date, "
            "`permanent_water` names a map that replaces the earlier scene. "
        )
    if is_map := beside == PERMANENT_WATER:
        what = "Water beyond a map of permanent water in a radar image"
        rules, variant = rules | {"reference": True}, f"{variant}-reference"
    return ModelCard(
        name=name, variant=variant, version="1.1.0", title=f"{what}, by a threshold from each scene's histogram",
        description=f"VV averaged over {_SMOOTH_PX} x {_SMOOTH_PX} px against speckle. {note}{_LIMITS}",
        license="Apache-2.0", citation=_CITATION, architecture="sar-water",
        arguments=canonical(rules | {"smooth_px": _SMOOTH_PX, "zero": -mean}),
        bands=("vv", beside) if beside else ("vv",), quantities=quantities,
        mean=(mean, 0.0 if is_map else mean) if beside else (mean,), std=(1.0, 1.0) if beside else (1.0,), gsd_m=(3.0, 60.0),
        classes=FLOOD_CLASSES[:-1] if beside else LAND_AND_WATER, activation="none", needs_survey=True,
        stride_px=1, support_px=_SMOOTH_PX // 2, halo_px=_SMOOTH_PX // 2, core_px=1024,
        memory=tuple((precision, 96.0 if beside else 48.0) for precision in ("bf16", "fp32")), flop_per_px=0.0,
    )  # fmt: skip


def _cards(name: str, beside: str = "") -> tuple[ModelCard, ...]:
    bounds = {"lowest": -22.0, "highest": -14.0}
    return (
        _card(name, "linear", ("backscatter",), mean=-1.0, beside=beside, decibels=True, **bounds),
        _card(name, "db", ("backscatter_db",), mean=_FAR_DB, beside=beside, **bounds),
        _card(name, "grey", ("unit", "dn"), mean=-1.0, beside=beside),
    )


WATER_SAR = _cards("water-sar")
FLOOD_SAR = _cards("flood-sar", BEFORE + "vv")
FLOOD_SAR_REFERENCE = _cards("flood-sar", PERMANENT_WATER)
ENTRIES = (ZooEntry(cards=WATER_SAR), ZooEntry(cards=FLOOD_SAR + FLOOD_SAR_REFERENCE))
