"""The judge of the benchmark against other systems, on maps whose faults are known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window

from tests.bench.command import ROOT
from tests.bench.peers import judge
from tests.bench.peers.material import CORNER_PX, make_scene

SIDE = 1024
WHOLE = Window(0, 0, SIDE, SIDE)


def _map(value: int = 1, confidence: float = 0.8) -> judge.Map:
    return judge.Map(np.full((SIDE, SIDE), value, np.uint8), np.full((SIDE, SIDE), confidence, np.float32))


def _valid(n_rows_without: int = 0) -> NDArray[np.bool_]:
    return np.arange(SIDE)[:, None].repeat(SIDE, 1) >= n_rows_without


def _judged(made: judge.Map, valid: NDArray[np.bool_]) -> judge.Verdict:
    return judge.compare([(WHOLE, made, _map(), valid)], (SIDE, SIDE))


def test_a_map_that_is_the_reference_has_no_fault() -> None:
    made = _map()
    made.classes[:10] = judge.NOTHING
    verdict = _judged(made, _valid(10))
    assert (verdict.flips, verdict.flips_inside, verdict.ring_error) == (0, 0, 0)
    assert (verdict.leaked_px, verdict.uncovered_px) == (0, 0)
    assert (verdict.compared_px, verdict.nodata_px) == (SIDE * (SIDE - 10), SIDE * 10)


def test_flips_are_told_for_all_pixels_and_for_those_away_from_the_border() -> None:
    made = _map()
    made.classes[0, :100] = 2
    made.classes[512, 500:520] = 3
    verdict = _judged(made, _valid())
    assert verdict.flips == pytest.approx(120 / SIDE**2)
    assert verdict.flips_inside == pytest.approx(20 / (SIDE - 2 * 256) ** 2)


def test_the_ring_error_is_that_of_the_outermost_ring_alone() -> None:
    made = _map()
    made.confidence[0] = 0.3
    made.confidence[1:-1, 1:-1] = 0
    assert _judged(made, _valid()).ring_error == pytest.approx(0.5 * SIDE / (4 * SIDE - 4))


def test_a_class_over_nodata_has_leaked() -> None:
    made = _map()
    made.classes[:7] = judge.NOTHING
    verdict = _judged(made, _valid(10))
    assert (verdict.leaked_px, verdict.flips) == (3 * SIDE, 0)


def test_a_pixel_without_a_class_is_uncovered_and_a_flip() -> None:
    made = _map()
    made.classes[600, :5] = judge.NOTHING
    verdict = _judged(made, _valid())
    assert (verdict.uncovered_px, verdict.flips) == (5, 5 / SIDE**2)


def test_parts_of_a_scene_add_up_to_the_whole() -> None:
    made, wanted, valid = _map(), _map(), _valid(3)
    made.classes[100:900:7] = 2
    made.confidence[:, 0] = 0.1
    parts = []
    for row in (0, 512):
        rows = np.s_[row : row + 512]
        cut = [judge.Map(one.classes[rows], one.confidence[rows]) for one in (made, wanted)]
        parts.append((Window(0, row, SIDE, 512), cut[0], cut[1], valid[rows]))
    in_parts, at_once = judge.compare(parts, (SIDE, SIDE)), _judged(made, valid)
    assert in_parts.ring_error == pytest.approx(at_once.ring_error)
    assert (in_parts.flips, in_parts.flips_inside) == (at_once.flips, at_once.flips_inside)
    assert (in_parts.leaked_px, in_parts.compared_px) == (at_once.leaked_px, at_once.compared_px)


def test_scores_without_a_meaning_are_no_class() -> None:
    scores = np.full((4, 1, 5), 0.1, np.float32)
    scores[2] = 0.7
    scores[:, 0, 0] = np.nan
    scores[:, 0, 1] = -9999
    scores[:, 0, 2] = 1e-9
    made = judge.from_probabilities(scores, -9999)
    assert made.classes[0].tolist() == [255, 255, 255, 2, 2]
    assert made.confidence[0].tolist() == pytest.approx([0, 0, 0, 0.7, 0.7])


def test_scores_stored_as_whole_numbers_are_parts_of_ten_thousand() -> None:
    scores = np.array([1000, 6000, 2000, 1000], np.uint16).reshape(4, 1, 1)
    made = judge.from_probabilities(scores, None)
    assert made.classes.item() == 1
    assert made.confidence.item() == pytest.approx(0.6)


def test_confidence_of_nothing_is_none() -> None:
    made = judge.from_classes(np.array([[0, 255]], np.uint8), np.array([[125, 255]], np.uint8), 250)
    assert made.confidence.tolist() == [[0.5, 0]]


def test_a_striped_file_is_no_cog_and_a_moved_one_has_lost_its_grid(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", SIDE)
    with rasterio.open(scene) as dataset:
        profile, pixels = dataset.profile | {"driver": "COG"}, dataset.read()
    profile = {name: profile[name] for name in ("driver", "width", "height", "count", "dtype", "crs", "transform")}
    moved = profile["transform"] @ Affine.translation(1, 0)
    for name, changes in (("cog", {}), ("striped", {"driver": "GTiff"}), ("moved", {"transform": moved})):
        with rasterio.open(tmp_path / f"{name}.tif", "w", **(profile | changes)) as made:
            made.write(pixels)
    assert judge.is_cog(tmp_path / "cog.tif")
    assert not judge.is_cog(tmp_path / "striped.tif")
    assert judge.keeps_grid(tmp_path / "striped.tif", scene)
    assert not judge.keeps_grid(tmp_path / "moved.tif", scene)


def test_the_scene_is_the_same_every_time_and_its_corner_is_nodata(tmp_path: Path) -> None:
    with (
        rasterio.open(make_scene(tmp_path / "a.tif", 1536)) as one,
        rasterio.open(make_scene(tmp_path / "b.tif", 1536)) as two,
    ):
        pixels = one.read()
        assert np.array_equal(pixels, two.read())
    assert int((pixels == 0).all(0).sum()) == CORNER_PX * (CORNER_PX + 1) // 2 == 524_800


def test_work_of_an_orphan_is_counted(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 1: pass"
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}], start_new_session=True)"
    assert 0.9 < float(_measured(script, tmp_path).stdout) < 2


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    failed = _measured("raise SystemExit('no such thing')", tmp_path)
    assert failed.returncode
    assert "RuntimeError" in failed.stderr
    assert "no such thing" in failed.stderr


def _measured(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`measure` in a process of its own: it takes in every orphan, also those of other tests."""
    program = (
        "import sys; from pathlib import Path; from tests.bench.peers.usage import measure; "
        f"print(measure([sys.executable, '-c', {script!r}], cwd=Path('.'), log=Path({str(folder / 'log')!r})).cpu_s)"
    )
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
