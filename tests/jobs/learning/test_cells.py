"""Windows of labelled scenes against whole files in memory, and checkpoints against what killed processes leave."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earthloom.jobs.learning.cells import Cells
from earthloom.jobs.learning.checkpoints import Checkpoints
from earthloom.jobs.learning.labels import IGNORE
from earthloom.tiling.errors import CardError, StorageError
from earthloom.tiling.reading import read
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from earthloom.tiling.window import Window
from tests.jobs.learning.meadows import meadow, tables
from tests.jobs.learning.test_split import examples_of, truth_of

WIDTH, HEIGHT = 700, 560


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("cells")
    meadow(base, "a", width=WIDTH, height=HEIGHT, nodata=True)
    return base


@pytest.fixture(scope="module")
def cells(folder: Path) -> Cells:
    examples = examples_of(tables(folder, "a"))
    return Cells(examples.scenes, examples.split, 1 << 30)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    col=st.integers(-120, WIDTH - 10), row=st.integers(-120, HEIGHT - 10), width=st.integers(1, 130),
    height=st.integers(1, 130),
)  # fmt: skip
def test_any_window_is_that_of_the_whole_file_reflected_at_its_borders(
    folder: Path, cells: Cells, col: int, row: int, width: int, height: int
) -> None:
    window = Window(col, row, width, height)
    with rasterio.open(folder / "a.tif") as dataset:
        pixels = dataset.read()
    _, labels = truth_of(folder / "a.tif")
    found = cells.read(0, window)
    around = np.pad(pixels, ((0, 0), (260, 260), (260, 260)), mode="reflect")
    wanted = around[:, row + 260 :, col + 260 :][:, :height, :width]
    assert np.array_equal(found.values, wanted)
    assert np.array_equal(found.valid, (wanted != 0).all(axis=0))
    beyond = np.pad(labels, 260, constant_values=IGNORE)
    assert np.array_equal(found.labels, beyond[row + 260 :, col + 260 :][:height, :width])


def test_what_is_kept_is_bounded_and_read_again_when_it_is_gone(folder: Path, cells: Cells) -> None:
    small = Cells(cells._scenes, cells._split, 3 << 20)
    windows = [Window(col, row, 200, 200) for col in (0, 400) for row in (0, 300)] * 2
    for window in windows:
        assert np.array_equal(small.read(0, window).values, cells.read(0, window).values)
        assert small._held_bytes <= 3 << 20
    assert sum(cell.result().n_bytes for cell in small._kept.values()) == small._held_bytes


def test_a_square_that_many_want_at_once_is_read_once(cells: Cells) -> None:
    fresh = Cells(cells._scenes, cells._split, 1 << 30)
    with (
        mock.patch("earthloom.jobs.learning.cells.read_pixels", side_effect=read.read_pixels) as reading,
        ThreadPoolExecutor(8) as pool,
    ):
        list(pool.map(lambda _: fresh.read(0, Window(10, 10, 50, 50)), range(32)))
    assert reading.call_count == 1


def test_a_read_that_fails_in_passing_is_tried_again_and_another_is_told(cells: Cells) -> None:
    fresh = Cells(cells._scenes, cells._split, 1 << 30)
    faults = [StorageError("503", transient=True), StorageError("503", transient=True)]

    def faulty(*arguments: object, **options: object) -> object:
        if faults:
            raise faults.pop()
        return read.read_pixels(*arguments, **options)  # type: ignore[arg-type]

    with mock.patch("earthloom.jobs.learning.cells.read_pixels", faulty), mock.patch("time.sleep"):
        assert fresh.read(0, Window(0, 0, 9, 9)).values.shape == (3, 9, 9)
        faults.append(StorageError("403"))
        with pytest.raises(StorageError, match="403"):
            fresh.read(0, Window(600, 0, 9, 9))
        assert fresh.read(0, Window(600, 0, 9, 9)).values.shape == (3, 9, 9), "a failure is not kept"


def test_the_newest_checkpoint_that_is_whole_counts_and_old_ones_go(tmp_path: Path) -> None:
    checkpoints = Checkpoints(open_store(ObjectRef.parse(str(tmp_path))), "training/x/seed-0")
    assert checkpoints.latest() is None
    for step in (1, 2, 3):
        if step != 2:
            checkpoints.save_best(step, {"w": torch.full((2,), float(step))})
        checkpoints.save(step, {"w": torch.full((2,), float(step))}, {"step": step}, 1 if step < 3 else 3)
    folder = tmp_path / "training" / "x" / "seed-0"
    assert sorted(path.name for path in folder.iterdir()) == [
        "best-000000003.safetensors", "step-000000002.safetensors", "step-000000003.safetensors",
    ]  # fmt: skip
    newest = folder / "step-000000003.safetensors"
    newest.write_bytes(newest.read_bytes()[:-3])
    found = checkpoints.latest()
    assert found is not None
    assert (found[0]["w"].tolist(), found[1]) == ([2, 2], {"step": 2})
    assert checkpoints.best(3)["w"].tolist() == [3, 3]
    assert checkpoints.finished() is None
    checkpoints.finish({"w": torch.zeros(1)}, {"step": 3})
    assert [path.name for path in folder.iterdir()] == ["final.safetensors"]
    (folder / "final.safetensors").write_bytes(b"no")
    with pytest.raises(CardError, match="is damaged"):
        checkpoints.finished()
