"""Curves of a training in Weights & Biases, whose package is played here: which run they go to."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from earthloom.models.training.log import Log


def test_another_training_of_the_same_name_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs went by the name of the model alone, so the curves of a training that was changed continued the old ones."""
    begun: list[dict[str, Any]] = []
    module: Any = ModuleType("wandb")
    module.__spec__ = ModuleSpec("wandb", None)
    module.init = lambda **options: begun.append(options)
    monkeypatch.setitem(sys.modules, "wandb", module)
    for key in ("training-1a-seed-0", "training-2b-seed-0", "training-1a-seed-0"):
        Log(tmp_path, 0, name="water-seed0", key=key, settings={}, wandb="maps")._board.close()
    assert [options["id"] for options in begun] == ["training-1a-seed-0", "training-2b-seed-0", "training-1a-seed-0"]
    assert {options["name"] for options in begun} == {"water-seed0"}
