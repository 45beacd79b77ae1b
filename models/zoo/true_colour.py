"""`true-colour`: reflectance as 8-bit pictures, one rule for all scenes, so that models made for such pictures can follow."""

from __future__ import annotations

from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import canonical
from earthloom.models.zoo.entry import ZooEntry

_BANDS = ("red", "green", "blue")


def _true_colour(variant: str, quantities: tuple[str, ...], white: float, level: str) -> ModelCard:
    return ModelCard(
        name="true-colour",
        variant=variant,
        title="Red, green and blue in 8 bits, as the true-colour images of Sentinel-2 are made",
        description=(
            f"Reflectance from 0 to {white:g} becomes 0 to 255, as in the TCI of {level}. Anything brighter, such as sand, "
            "snow and clouds, is white without detail. Put it before models made for 8-bit pictures, such as deforestation."
        ),
        license="Apache-2.0",
        citation=(
            "European Space Agency: Sentinel-2 Products Specification Document, S2-PDGS-TAS-DI-PSD (in the true-colour image "
            "255 stands for a level of 3558 in L1C, and of 2000 in L2A)."
        ),
        task="regression",
        architecture="fixed-stretch",
        arguments=canonical({"high": white}),
        bands=_BANDS,
        quantities=quantities,
        mean=(-1.0,) * 3,  # so that a pixel that is valid is never 0 to the network
        std=(1.0,) * 3,
        gsd_m=(0.1, 1000.0),
        outputs=_BANDS,
        output_dtype="uint8",
        stride_px=1,
        support_px=0,
        halo_px=0,
        core_px=1024,
        memory=(("bf16", 46.0), ("fp32", 46.0)),
        flop_per_px=0.0,
    )


TRUE_COLOUR = (
    _true_colour("l2a", ("boa_reflectance", "reflectance"), 0.2, "level 2A"),
    _true_colour("l1c", ("toa_reflectance",), 0.3558, "level 1C"),
)

ENTRY = ZooEntry(cards=TRUE_COLOUR)
