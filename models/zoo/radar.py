"""`water-sar` and `flood-sar`: open water and floods in Sentinel-1 and other radar images, through clouds and at night."""

from __future__ import annotations

from typing import Any

from earthloom.models.cards.card import BEFORE, ModelCard, ModelClass
from earthloom.models.cards.file import canonical
from earthloom.models.zoo.entry import ZooEntry

_CITATION = (
    "Twele, A., Cao, W., Plank, S., Martinis, S. (2016): Sentinel-1-based flood mapping: a fully automated processing chain. "
    "International Journal of Remote Sensing 37, 2990-3004. Otsu, N. (1979): A threshold selection method from gray-level "
    "histograms. IEEE Transactions on Systems, Man, and Cybernetics 9, 62-66."
)
_LIMITS = (
    "Wind roughens water, which is then missed; roads, runways, dry sand and radar shadow are as dark as water. Flooded woods "
    "and towns shine and come out as dry. No calibrated scene with a reference was at hand; on 104 grey pictures of floods "
    "(OMBRIA) water-sar has a mean IoU of 0.39, where a threshold that finds water even in scenes without any has 0.46."
)
_SMOOTH_PX = 5
_FAR_DB = 200.0  # so that no valid value is 0 to the network
_ONE_DATE = (
    ModelClass(value=0, name="land", color="#b59f6b"),
    ModelClass(value=1, name="water", color="#1f78b4"),
)
_TWO_DATES = (
    ModelClass(value=0, name="dry", color="#b59f6b", description="No open water on either date"),
    ModelClass(value=1, name="flooded", color="#e31a1c", description="Open water only on the later date"),
    ModelClass(value=2, name="permanent_water", color="#1f78b4", description="Open water on both dates"),
    ModelClass(value=3, name="receded", color="#a6cee3", description="Open water only on the earlier date"),
)


def _card(
    name: str, variant: str, quantities: tuple[str, ...], *, mean: float, two_dates: bool, **rules: Any
) -> ModelCard:
    bands = ("vv", BEFORE + "vv") if two_dates else ("vv",)
    what = "Flooded ground between two radar images" if two_dates else "Open water in a radar image"
    return ModelCard(
        name=name, variant=variant, title=f"{what}, by a threshold that each scene's histogram chooses",
        description=f"VV averaged over {_SMOOTH_PX} x {_SMOOTH_PX} px against speckle. {_LIMITS}",
        license="Apache-2.0", citation=_CITATION, architecture="sar-water",
        arguments=canonical(rules | {"smooth_px": _SMOOTH_PX, "zero": -mean}),
        bands=bands, quantities=quantities, mean=(mean,) * len(bands), std=(1.0,) * len(bands), gsd_m=(3.0, 60.0),
        classes=_TWO_DATES if two_dates else _ONE_DATE, activation="none", needs_survey=True,
        stride_px=1, support_px=_SMOOTH_PX // 2, halo_px=_SMOOTH_PX // 2, core_px=1024,
        memory=tuple((precision, 96.0 if two_dates else 48.0) for precision in ("bf16", "fp32")), flop_per_px=0.0,
    )  # fmt: skip


def _cards(name: str, *, two_dates: bool) -> tuple[ModelCard, ...]:
    bounds = {"lowest": -22.0, "highest": -14.0}
    return (
        _card(name, "linear", ("backscatter",), mean=-1.0, two_dates=two_dates, decibels=True, **bounds),
        _card(name, "db", ("backscatter_db",), mean=_FAR_DB, two_dates=two_dates, **bounds),
        _card(name, "grey", ("unit", "dn"), mean=-1.0, two_dates=two_dates),
    )


WATER_SAR = _cards("water-sar", two_dates=False)
FLOOD_SAR = _cards("flood-sar", two_dates=True)
ENTRIES = (ZooEntry(cards=WATER_SAR), ZooEntry(cards=FLOOD_SAR))
