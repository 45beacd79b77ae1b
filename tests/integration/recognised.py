"""A bay of 3 x 2 shards, and two networks that know what lies in it: `kinds` labels its chips, `finder` finds objects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from earthloom.jobs.execution.driver import RunResult
from earthloom.models.cards.card import ObjectRule
from earthloom.models.cards.file import write_card
from earthloom.models.networks import registry
from tests import maps
from tests.models.nets import TinyClassifier, TinyNet, card_of, seeded
from tests.models.test_labels import drawn, labels_card
from tests.scenes import landscape, write_scene

BANDS = ("green", "swir16")
SIDE_PX = 32
"""Of a chip's core, of `kinds`."""
RULE = ObjectRule(radius_px=3, threshold=0.9, merge_iou=0.3, size_px=4.0)


def go(scene: Path, out: Path, *model: str | Path, **options: Any) -> RunResult:
    return maps.go(scene, out=out, model=model, **options)


def write_bay(folder: Path) -> Path:
    pixels = landscape(1100, 700, 2)
    pixels[:, 100:180, 300:460] = 0
    return write_scene(folder / "bay.tif", pixels, BANDS, nodata=0)


@contextmanager
def model_of(name: str, folder: Path) -> Iterator[Path]:
    """A card folder of a tiny network: of `kinds` every class is somewhere, `finder` finds hundreds of things anywhere."""
    with mock.patch.dict(registry.REGISTRY, {"tiny-classifier": TinyClassifier, "tiny": TinyNet}):
        if name == "kinds":
            card, _ = drawn(labels_card(name=name, bands=BANDS, core_px=SIDE_PX, halo_px=8), folder)
        else:
            finder = replace(
                card_of("tiny", 2, 2, 2), name=name, bands=BANDS, objects=RULE, activation="sigmoid", task="object-detection",
                halo_px=8, core_px=64,
            )  # fmt: skip
            card = seeded(finder, folder).card
        write_card(folder, card)
        yield folder
