"""The recipe of the ship detector on ports made by code: two steps of training, a card that loads, scores held back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from earthloom.models.cards.file import load_card
from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.storage.objects import ObjectRef
from infra.recipes import ships
from tests.scenes import landscape, write_scene


@pytest.fixture
def ports(tmp_path: Path) -> Path:
    for number, name in enumerate((*ships.TRAINED_ON, *ships.HELD_BACK)):
        write_scene(tmp_path / "ships_s2" / f"{name}.tif", landscape(200, 170, 5, number))
        boxes = [
            {"id": 1, "bbox_xywh_px": [60.0, 50.0, 9.0, 14.0]},
            {"id": 2, "bbox_xywh_px": [110.0, 90.0, 20.0, 7.0]},
        ]
        (tmp_path / "ships_s2" / f"{name}_ships.json").write_text(json.dumps({"ships": boxes}))
    return tmp_path


def test_the_recipe_writes_a_card_with_scores_of_ports_held_back(
    ports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ships, "_SCHEDULE", replace(ships._SCHEDULE, steps=2, batch=2))
    monkeypatch.setattr(ships, "_CHIP_CORE_PX", 208)
    made = ships.train(ships.SHIPS, ports, tmp_path / "card")
    assert load_card(ObjectRef.parse(str(tmp_path / "card"))) == made
    scores = dict(made.scores)
    assert set(scores) == {"ap50", "ap50_95", "precision_iou30", "precision_iou50", "recall_iou30", "recall_iou50"}
    assert all(0 <= value <= 1 for value in scores.values())
    assert (made.kind, made.sizes, made.weights is not None) == ("objects", {"classes": 5}, True)


def test_a_port_is_read_with_its_boxes(ports: Path) -> None:
    port = ships.read_port(ports, "durban")
    assert port.boxes.tolist() == [[60, 50, 9, 14], [110, 90, 20, 7]]
    assert port.values.shape == (5, 170, 200)
    assert port.classes.tolist() == [0, 0]
    assert np.issubdtype(port.values.dtype, np.uint16)
    with pytest.raises(MissingObjectError, match="--data"):
        ships.read_port(ports, "atlantis")
