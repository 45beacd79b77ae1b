"""`bands`: the bands of a scene as they are, published like any image, so that areas have cubes and composites of them."""

from __future__ import annotations

from earthloom.models.cards.card import ModelCard
from earthloom.models.zoo.entry import REFLECTANCE, ZooEntry

BANDS = ModelCard(
    name="bands",
    title="All optical bands, unchanged",
    description=(
        "All optical bands of a scene in their stored values, masked by the previous stages of a chain. Use it for cubes and "
        "composites of the imagery itself, and for the earlier scene of pairs."
    ),
    license="Apache-2.0",
    citation="Earthloom",
    task="regression",
    architecture="same",
    bands=("*",),
    quantities=(*REFLECTANCE, "unit", "dn"),
    mean=(0.0,),
    std=(1.0,),
    gsd_m=(0.1, 1000.0),
    outputs=("*",),
    stride_px=1,
    support_px=0,
    halo_px=0,
    core_px=1024,
    memory=(("bf16", 1.0), ("fp32", 1.0)),
    memory_per_band=12.0,
    flop_per_px=0.0,
)

ENTRY = ZooEntry(cards=(BANDS,))
