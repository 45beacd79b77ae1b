"""Index and split: what is counted where, that no unit is in two parts, and that crops see nothing of the other parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely import box

from earthloom.jobs.learning.batches import Crops, Sampling
from earthloom.jobs.learning.config import SplitTable, load_training
from earthloom.jobs.learning.corpus import open_corpus
from earthloom.jobs.learning.examples import Examples
from earthloom.jobs.learning.index import ChipIndex, make_index
from earthloom.jobs.learning.labels import IGNORE
from earthloom.jobs.learning.split import Part, _assign
from earthloom.jobs.learning.start import bands_of, first_weights
from earthloom.jobs.learning.train import prepare
from earthloom.models.training.augment import Variety
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.vectors import pyogrio
from earthloom.tiling.window import Window
from tests.jobs.learning.meadows import ORIGIN, meadow, tables, write_labels
from tests.scenes import write_scene


def examples_of(values: Mapping[str, Any]) -> Examples:
    config = load_training(values)
    first = first_weights(config.model.start)
    bands = bands_of(config, first)
    return prepare(config, open_corpus(config, bands), first, bands)[0]


def truth_of(path: Path) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Physical values, and labels that are unknown where there is no data."""
    with rasterio.open(path) as scene, rasterio.open(path.with_name(f"{path.stem}_labels.tif")) as labels:
        pixels, named = scene.read(), labels.read(1)
    named[(pixels == 0).any(axis=0)] = IGNORE
    return pixels * 1e-4, named


def test_the_index_counts_each_labelled_pixel_with_data_once(tmp_path: Path) -> None:
    path = meadow(tmp_path, "a", width=150, height=133, nodata=True)
    examples = examples_of(tables(tmp_path, "a", split={"validation": 0, "test": 0, "block_px": 160}))
    index, (pixels, labels) = examples.index, truth_of(path)
    assert index.counts.sum(axis=0).tolist() == [(labels == 0).sum(), (labels == 1).sum()]
    for row in range(len(index.scene)):
        chip = Window(int(index.col[row]) * 32, int(index.row[row]) * 32, 32, 32)
        inside = (chip & Window(0, 0, 150, 133)).slices(Window(0, 0, 150, 133))
        assert index.counts[row].tolist() == [(labels[inside] == value).sum() for value in (0, 1)]
        rows, cols = np.nonzero(labels[inside] != IGNORE)
        found = index.box[row] - np.array([chip.col_off, chip.row_off] * 2)
        assert found.tolist() == [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
    chips = {(int(r), int(c)) for r, c in zip(index.row, index.col, strict=True)}
    known = np.zeros_like(labels, bool)
    for row, col in chips:
        known[row * 32 : row * 32 + 32, col * 32 : col * 32 + 32] = True
    known &= (pixels != 0).all(axis=0)
    np.testing.assert_allclose(examples.mean, pixels[:, known].mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(examples.std, pixels[:, known].std(axis=1), rtol=1e-4)


def test_an_index_is_the_same_after_a_journey_through_storage(tmp_path: Path) -> None:
    meadow(tmp_path, "a")
    config = load_training(tables(tmp_path, "a"))
    index = make_index(open_corpus(config, ("red", "green", "nir")).scenes, n_classes=2, chip_px=32)
    again = ChipIndex.from_bytes(index.to_bytes())
    assert all(np.array_equal(getattr(index, name), getattr(again, name)) for name in ChipIndex.__slots__)


@settings(deadline=None, max_examples=30)
@given(
    pixels=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=12, max_size=40),
    seed=st.integers(0, 99),
)
def test_units_go_to_parts_of_about_the_shares_that_are_wanted(pixels: list[tuple[int, int]], seed: int) -> None:
    counts = np.array(pixels, np.int64) + 50
    shares = (0.6, 0.2, 0.2)
    parts = np.array(_assign(counts, shares, seed))
    assert parts.tolist() == np.array(_assign(counts, shares, seed)).tolist()
    for part, share in enumerate(shares):
        found = counts[parts == part].sum(axis=0) / counts.sum(axis=0)
        assert (abs(found - share) < 0.25).all()


def test_squares_are_of_one_part_each_and_the_seed_decides_which(tmp_path: Path) -> None:
    meadow(tmp_path, "a", width=384, height=320)
    one = examples_of(tables(tmp_path, "a"))
    whole = one.scenes[0].scene.grid.window
    parts = one.split.parts(0, one.scenes[0], whole)
    for square in whole.split(64):
        assert len(np.unique(parts[square.slices(whole)])) == 1
    assert {int(part) for part in np.unique(parts)} == {0, 1, 2}
    assert np.array_equal(parts, examples_of(tables(tmp_path, "a")).split.parts(0, one.scenes[0], whole))
    other = examples_of(tables(tmp_path, "a", seed=1)).split.parts(0, one.scenes[0], whole)
    assert not np.array_equal(parts, other)


def test_scenes_of_one_place_are_never_apart(tmp_path: Path) -> None:
    for number in range(4):  # two dates each of two places
        meadow(tmp_path, f"s{number}", seed=number, at_px=(5000 * (number // 2), 0))
    for seed in range(3):
        values = tables(
            tmp_path, *(f"s{n}" for n in range(4)), seed=seed, split={"by": "scene", "validation": 0, "test": 0.5}
        )
        values["split"].pop("block_px")
        of_scene = examples_of(values).split.of_scene
        assert of_scene[0] == of_scene[1]
        assert of_scene[2] == of_scene[3]
        assert set(of_scene) == {Part.TRAIN, Part.TEST}


def test_scenes_go_where_they_are_named_and_the_others_are_trained_on(tmp_path: Path) -> None:
    for number in range(3):
        meadow(tmp_path, f"s{number}", seed=number, at_px=(5000 * number, 0))
    split = {"by": "scene", "validation": ["s2"], "test": ["s0"]}
    assert examples_of(tables(tmp_path, "s0", "s1", "s2", split=split)).split.of_scene == (2, 0, 1)
    with pytest.raises(ConfigError, match="test names the scene s9; there are s0, s1, s2"):
        examples_of(tables(tmp_path, "s0", "s1", "s2", split=split | {"test": ["s9"]}))
    with pytest.raises(ConfigError, match="s2 is in two parts"):
        examples_of(tables(tmp_path, "s0", "s1", "s2", split=split | {"test": ["s2"]}))


def regions(folder: Path, *names: str | int) -> Path:
    """Vertical strips of 60 px in another CRS, one for each name."""
    pyogrio()  # with its own drivers, before geopandas imports it
    x, y = ORIGIN
    strips = [box(x + 600 * i, y - 1600, x + 600 * (i + 1), y) for i in range(len(names))]
    frame = geopandas.GeoDataFrame({"name": names}, geometry=strips, crs="EPSG:32617")
    frame.to_crs("EPSG:4326").to_file(folder / "regions.gpkg")
    return folder / "regions.gpkg"


def by_region(folder: Path, *names: str | int) -> dict[str, Any]:
    names = names or ("west", "middle", "east")
    train, validation, test = ([str(name)] for name in names)
    split = {
        "by": "region",
        "regions": str(regions(folder, *names)),
        "train": train,
        "validation": validation,
        "test": test,
    }
    made = tables(folder, "a", split=split)
    made["split"].pop("block_px")
    return made


@pytest.mark.parametrize("names", [("west", "middle", "east"), (2, 1, 0), ("2", "1", "0"), (10, 20, 30)])
def test_regions_of_another_crs_decide_pixel_by_pixel(tmp_path: Path, names: tuple[str | int, ...]) -> None:
    """Numbers in their column were taken for the order in which the file names them: 2, 1, 0 tested what it trained on."""
    meadow(tmp_path, "a")
    examples = examples_of(by_region(tmp_path, *names))
    parts = examples.split.parts(0, examples.scenes[0], Window(0, 0, 192, 160))
    wanted = np.repeat([0, 1, 2, IGNORE], [60, 60, 60, 12])
    assert (parts == wanted).mean() > 0.99
    assert examples.split.pixels(examples.index)["train"][1] > 0


def test_a_region_that_nobody_names_is_refused(tmp_path: Path) -> None:
    meadow(tmp_path, "a")
    values = by_region(tmp_path)
    values["split"]["test"] = []
    with pytest.raises(SceneError, match="holds 'east'"):
        examples_of(values)


def test_a_part_that_stays_empty_is_refused_with_the_remedy(tmp_path: Path) -> None:
    meadow(tmp_path, "a")
    with pytest.raises(ConfigError, match="the validation part has no labelled pixel: split into smaller units"):
        examples_of(tables(tmp_path, "a", split={"block_px": 192}))
    with pytest.raises(ConfigError, match="'block_px=50' is not a multiple of 'crop_px=32'; use 64"):
        examples_of(tables(tmp_path, "a", split={"block_px": 50}))


def test_a_scene_whose_labels_lie_elsewhere_or_are_all_unknown_is_refused_by_name(tmp_path: Path) -> None:
    meadow(tmp_path, "a")
    meadow(tmp_path, "b", at_px=(0, 3000))
    elsewhere = Affine(10, 0, 700000, 0, -10, 4500000)
    write_labels(tmp_path / "b_labels.tif", np.zeros((160, 192), np.uint8), elsewhere)
    with pytest.raises(
        ConfigError, match=r"of 2 scenes 1 have no pixel .* of a class: b\. Their labels \(.*b_labels\.tif\)"
    ):
        examples_of(tables(tmp_path, "a", "b"))
    write_labels(tmp_path / "b_labels.tif", np.full((160, 192), 255, np.uint8), Affine(10, 0, 300000, 0, -10, 4470000))
    with pytest.raises(ConfigError, match="of 2 scenes 1 have no pixel"):
        examples_of(tables(tmp_path, "a", "b"))


def coded(folder: Path, name: str, *, width: int, height: int) -> None:
    """A scene whose first two bands say column and row, and whose label is 1 in every second pixel."""
    rows, cols = np.mgrid[:height, :width]
    pixels = np.stack([cols + 1, rows + 1, np.full_like(rows, 1000)]).astype(np.uint16)
    pixels[2, ::2] = 1200
    transform = Affine(10, 0, *ORIGIN[:1], 0, -10, ORIGIN[1])
    write_scene(folder / f"{name}.tif", pixels, transform=transform, nodata=0)
    write_labels(folder / f"{name}_labels.tif", ((rows + cols) % 2).astype(np.uint8), transform)


@pytest.mark.parametrize("by", ["block", "region"])
def test_no_crop_shows_a_pixel_of_another_part(tmp_path: Path, by: str) -> None:
    """Planted by hand: with `valid` left as it is read regions fail, and squares with crops that may lie anywhere."""
    coded(tmp_path, "a", width=192, height=160)
    values = tables(tmp_path, "a") if by == "block" else by_region(tmp_path)
    values["model"] |= {"mean": (0.0, 0.0, 0.0), "std": (1e-4, 1e-4, 1e-4)}
    examples = examples_of(values)
    parts = examples.split.parts(0, examples.scenes[0], Window(0, 0, 192, 160))
    crops = Crops(examples, Sampling(variety=Variety(mixed=0.5), balance=0.5, seed=3))
    shown = 0
    for step in range(60):
        made, labels = crops.crop(step, 0)
        cols, rows, _ = np.rint(made.numpy()).astype(int)
        seen = cols > 0
        shown += seen.sum()
        assert (parts[rows[seen] - 1, cols[seen] - 1] == Part.TRAIN).all()
        assert (labels.numpy()[~seen] == IGNORE).all()
        assert np.array_equal(labels.numpy()[seen], (rows[seen] + cols[seen]) % 2), (
            "values and labels lie on each other"
        )
    assert shown > 20 * 32 * 32


def test_a_crop_depends_on_seed_step_and_place_alone(tmp_path: Path) -> None:
    meadow(tmp_path, "a")
    variety = Variety(zoom=1.3, gain=0.1, noise=0.01, mixed=0.5)

    def drawn(seed: int, step: int, place: int) -> NDArray[Any]:
        crops = Crops(examples_of(tables(tmp_path, "a")), Sampling(variety=variety, balance=0.5, seed=seed))
        return np.asarray(crops.crop(step, place)[0])

    first = drawn(0, 5, 1)
    assert np.array_equal(first, drawn(0, 5, 1))
    assert not any(np.array_equal(first, other) for other in (drawn(1, 5, 1), drawn(0, 6, 1), drawn(0, 5, 2)))


def test_balance_shows_a_rare_class_more_often(tmp_path: Path) -> None:
    meadow(tmp_path, "a", width=384, height=320)
    with rasterio.open(tmp_path / "a_labels.tif", "r+") as labels:
        rare = np.zeros((320, 384), np.uint8)
        rare[8:20, 8:20] = rare[200:212, 300:312] = 1
        labels.write(rare, 1)
    shares = []
    for balance in (0.0, 1.0):
        crops = Crops(
            examples_of(tables(tmp_path, "a", split={"validation": 0, "test": 0})),
            Sampling(variety=Variety(), balance=balance, seed=0),
        )
        shares.append(np.mean([bool((crops.crop(step, 0)[1] == 1).any()) for step in range(60)]))
    assert shares[0] < 0.15
    assert shares[1] > 0.4


def test_a_scene_smaller_than_a_crop_is_reflected(tmp_path: Path) -> None:
    meadow(tmp_path, "a", width=50, height=27)
    examples = examples_of(tables(tmp_path, "a", split={"block_px": 64, "validation": 0, "test": 0}))
    crops = Crops(examples, Sampling(variety=Variety(zoom=2.0), balance=0, seed=0))
    for step in range(10):
        values, labels = crops.crop(step, 0)
        assert values.shape == (3, 32, 32)
        assert np.isfinite(values.numpy()).all()
        assert (labels.numpy() != IGNORE).any()


def test_the_table_of_a_split_by_region_names_all_parts() -> None:
    with pytest.raises(ValueError, match="of regions all parts are named"):
        SplitTable(by="region", regions="r.gpkg", train=("a",))
