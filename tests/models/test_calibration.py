from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from earthloom.models.cards.card import ModelCard
from earthloom.models.device.batch_size import best_batch
from tests.models.nets import CPU, card_of

CARD = replace(card_of("tiny", 2, 3, 2), memory=(("fp32", 100.0),))
CHIP_PX = 100
ONE_CHIP_BYTES = 100 * CHIP_PX**2


class Clock:
    """Times a pass as `a + b * n` seconds up to `largest` chips, and says which sizes were asked for."""

    def __init__(self, a: float, b: float, largest: int = 1000) -> None:
        self.a, self.b, self.largest, self.asked = a, b, largest, list[int]()

    def __call__(self, n_chips: int) -> float | None:
        self.asked.append(n_chips)
        return None if n_chips > self.largest else self.a + self.b * n_chips


def choose(clock: Clock, cache: Path, *, card: ModelCard = CARD, chip_px: int = CHIP_PX, n_fit: int = 1000) -> int:
    return best_batch(card, CPU, chip_px, n_fit * ONE_CHIP_BYTES, clock, cache=cache)


def test_sizes_double_until_one_is_no_faster(tmp_path: Path) -> None:
    clock = Clock(1.0, 1.0)  # 2, 1.5, 1.25, 1.125, 1.063, 1.031 seconds per chip
    assert choose(clock, tmp_path) == 16
    assert clock.asked == [1, 2, 4, 8, 16, 32]


def test_a_batch_that_gains_nothing_is_one(tmp_path: Path) -> None:
    clock = Clock(0.0, 1.0)
    assert choose(clock, tmp_path) == 1
    assert clock.asked == [1, 2]


def test_sizes_beyond_free_memory_are_not_tried(tmp_path: Path) -> None:
    clock = Clock(10.0, 0.1)
    assert choose(clock, tmp_path, n_fit=7) == 4
    assert clock.asked == [1, 2, 4]


def test_a_size_for_which_memory_runs_out_ends_the_search(tmp_path: Path) -> None:
    clock = Clock(10.0, 0.1, largest=8)
    assert choose(clock, tmp_path, card=replace(CARD, memory=())) == 8
    assert clock.asked == [1, 2, 4, 8, 16]


def test_one_chip_is_tried_even_where_it_should_not_fit(tmp_path: Path) -> None:
    assert choose(Clock(1.0, 1.0), tmp_path, n_fit=0) == 1
    assert choose(Clock(1.0, 1.0, largest=0), tmp_path / "other", n_fit=0) == 1


def test_an_answer_is_kept_and_bound_to_what_it_was_measured_for(tmp_path: Path) -> None:
    assert choose(Clock(1.0, 1.0), tmp_path) == 16
    again = Clock(0.0, 1.0)
    assert choose(again, tmp_path) == 16
    assert choose(again, tmp_path, n_fit=5) == 4, "memory is what there is now"
    assert again.asked == []
    assert choose(again, tmp_path, chip_px=64) == 1
    assert choose(again, tmp_path, card=replace(CARD, stride_px=4)) == 1
    assert again.asked == [1, 2, 1, 2]


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b"{}", b'{"asked": {}, "batch": 8}', b"[" * 100_000],
    ids=["empty", "binary", "list", "bare", "of_another", "deep"],
)
def test_a_damaged_answer_is_measured_anew(tmp_path: Path, content: bytes) -> None:
    choose(Clock(1.0, 1.0), tmp_path)
    (path,) = (tmp_path / "batches").iterdir()
    path.write_bytes(content)
    clock = Clock(0.0, 1.0)
    assert choose(clock, tmp_path) == 1
    assert clock.asked == [1, 2]
    assert json.loads(path.read_bytes())["batch"] == 1


@pytest.mark.parametrize("batch", ["8", 8.0, True, None, -4])
def test_an_answer_that_is_no_batch_is_not_used(tmp_path: Path, batch: object) -> None:
    choose(Clock(0.0, 1.0), tmp_path)
    (path,) = (tmp_path / "batches").iterdir()
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"batch": batch}))
    assert choose(Clock(0.0, 1.0), tmp_path) == 1


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "batches").write_text("a file where the folder should be")
    for _ in range(2):
        clock = Clock(1.0, 1.0)
        assert choose(clock, tmp_path) == 16
        assert clock.asked
