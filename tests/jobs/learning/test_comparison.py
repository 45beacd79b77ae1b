"""Maps against labels: counts equal those of scikit-learn on all pixels, however the scene is cut; classes go by name."""

from __future__ import annotations

import tracemalloc
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rio_cogeo.cogeo import cog_validate
from sklearn.metrics import confusion_matrix

from earthloom.jobs.learning.comparison import SceneCounts, block_side_px, compare, error_codes
from earthloom.jobs.learning.error_map import ErrorMap, legend
from earthloom.jobs.learning.labels import IGNORE
from earthloom.jobs.learning.matching import Matching, match
from earthloom.jobs.learning.worst import worst_places
from earthloom.models.cards.card import ModelClass
from earthloom.tiling.errors import ConfigError, PublishError
from earthloom.tiling.grid import Grid
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from earthloom.tiling.window import Window

MODEL = tuple(
    ModelClass(value=i, name=name, color=f"#{i:02x}{i:02x}00")
    for i, name in enumerate(("shadow", "water", "snow", "land", "cloud"))
)
MATCHING = match(MODEL, ["land", "water"], {"shadow": "land", "snow": "snow", "cloud": "-"}, {})


def scene(width: int = 300, height: int = 210, seed: int = 0) -> dict[str, NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return {
        "classes": rng.choice([0, 1, 2, 3, 4, 255], (height, width), p=[0.1, 0.3, 0.1, 0.4, 0.05, 0.05]).astype(np.uint8),
        "confidence": rng.integers(60, 251, (height, width)).astype(np.uint8),
        "labels": rng.choice([0, 1, 255], (height, width), p=[0.5, 0.3, 0.2]).astype(np.uint8),
        "regions": np.repeat(np.array([0, 2, 255], np.uint8), width // 3)[None].repeat(height, 0),
    }  # fmt: skip


def counted(
    arrays: dict[str, NDArray[np.uint8]], window_px: int = 64, block_px: int = 32, keep: Any = lambda *_: None
) -> SceneCounts:
    extent = Window(0, 0, *arrays["classes"].shape[::-1])

    def part(name: str, window: Window) -> NDArray[np.uint8]:
        return arrays[name][window.slices(extent)]

    return compare(
        extent, MATCHING, classes=partial(part, "classes"), confidence=partial(part, "confidence"),
        labels=partial(part, "labels"), regions=(partial(part, "regions"), ("west", "nowhere", "middle")),
        window_px=window_px, block_px=block_px, keep=keep,
    )  # fmt: skip


def test_classes_of_the_model_go_by_name_and_as_the_user_says() -> None:
    assert MATCHING.names == ("land", "water", "snow"), "what is kept for itself comes last"
    assert MATCHING.of_model == (0, 1, 2, 0, IGNORE)
    assert MATCHING.colors == ("#030300", "#010100", "#020200")
    assert MATCHING.merges
    assert MATCHING.to_dict() == {"shadow": "land", "water": "water", "snow": "snow", "land": "land", "cloud": "-"}
    table = MATCHING.table()
    assert (table[4], table[255], table[77]) == (IGNORE,) * 3


@pytest.mark.parametrize(
    ("labels", "explicit", "message"),
    [
        (["land", "water"], {}, "no class of the labels is called shadow, snow, cloud. The model has shadow, water, snow, "
         "land, cloud; the labels have land, water. .*`match=shadow=land`"),
        (["land", "water", "ice"], {"shadow": "land", "snow": "land", "cloud": "-"}, "no class of the model stands for ice"),
        (["land", "water"], {"clouds": "-"}, "'clouds' is no class of the model"),
        (["land", "water"], {"cloud": "lnad"}, "'lnad' is no class of the labels"),
    ],
)  # fmt: skip
def test_what_matches_nothing_is_refused_with_both_sides(
    labels: list[str], explicit: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        match(MODEL, labels, explicit, {})


def test_counts_are_those_of_all_pixels() -> None:
    arrays = scene()
    found = counted(arrays)
    mapped, labels = MATCHING.table()[arrays["classes"]], arrays["labels"]
    scored = (mapped != IGNORE) & (labels != IGNORE)
    expected = confusion_matrix(labels[scored], mapped[scored], labels=range(3))
    np.testing.assert_array_equal(found.confusion, expected)
    np.testing.assert_array_equal(sum(found.blocks.values()), expected)
    assert found.unlabelled_px == ((labels == 255) & (arrays["classes"] != 255)).sum()
    assert found.unmapped_px == ((labels != 255) & (arrays["classes"] == 255)).sum()
    assert found.left_out_px == ((labels != 255) & (arrays["classes"] == 4)).sum()
    right = labels == mapped
    for stored in (60, 177, 250):
        at = scored & (arrays["confidence"] == stored)
        assert found.histogram[stored].tolist() == [(at & ~right).sum(), (at & right).sum()]
    assert found.histogram.sum() == expected.sum()
    for number, name in ((0, "west"), (2, "middle")):
        at = scored & (arrays["regions"] == number)
        np.testing.assert_array_equal(found.regions[name], confusion_matrix(labels[at], mapped[at], labels=range(3)))
    assert not found.regions["nowhere"].any()


@settings(deadline=None, max_examples=25)
@given(window_px=st.integers(7, 310), block_px=st.sampled_from([16, 32, 100]), seed=st.integers(0, 5))
def test_no_count_depends_on_how_a_scene_is_cut(window_px: int, block_px: int, seed: int) -> None:
    arrays = scene(seed=seed)
    whole, cut = (counted(arrays, window_px=px, block_px=block_px) for px in (1000, window_px))
    for name in ("confusion", "histogram", "thumbnail"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name))
    assert cut.blocks.keys() == whole.blocks.keys()
    assert all((cut.blocks[place] == whole.blocks[place]).all() for place in whole.blocks)
    assert all((cut.regions[name] == whole.regions[name]).all() for name in whole.regions)
    assert (cut.unlabelled_px, cut.unmapped_px, cut.left_out_px) == (
        whole.unlabelled_px, whole.unmapped_px, whole.left_out_px,
    )  # fmt: skip


def test_memory_does_not_grow_with_the_scene() -> None:
    def peak(side: int) -> int:
        def fill(value: int, window: Window) -> NDArray[np.uint8]:
            return np.full(window.shape, value, np.uint8)

        tracemalloc.start()
        compare(
            Window(0, 0, side, side), MATCHING, classes=partial(fill, 3), confidence=partial(fill, 200),
            labels=partial(fill, 1), regions=None, window_px=512, block_px=block_side_px(side * side),
            keep=lambda *_: None,
        )  # fmt: skip
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(512)
    assert peak(4096) < 1.2 * peak(1024)


def test_blocks_are_about_as_many_whatever_the_size() -> None:
    sides = {side: block_side_px(side * side) for side in (100, 1000, 5000, 20_000, 100_000)}
    assert sides == {100: 32, 1000: 32, 5000: 128, 20_000: 512, 100_000: 4096}
    assert all(px & (px - 1) == 0 for px in sides.values())


def test_the_worst_places_are_those_with_most_wrong_pixels() -> None:
    arrays = scene()
    arrays["classes"][:], arrays["labels"][:] = 3, 0
    arrays["labels"][40:60, 100:120] = 1
    arrays["labels"][200:, 290:] = 1
    counts = counted(arrays)
    extent = Window(0, 0, 300, 210)
    places = worst_places({"a": counts, "b": counts}, {"a": extent, "b": extent}, 32, 3)
    assert [(p.scene_id, p.window, *p.counts.values()) for p in places] == [
        ("a", Window(96, 32, 32, 32), 400, 1024), ("b", Window(96, 32, 32, 32), 400, 1024),
        ("a", Window(288, 192, 12, 18), 100, 216),
    ]  # fmt: skip
    assert places[0].shown == Window(80, 16, 64, 64)
    assert places[2].shown == Window(272, 176, 28, 34)


GRID = Grid(crs="EPSG:32633", transform=(10, 0, 300000, 0, -10, 5600000), width=1500, height=1100)


def publish(grid: Grid, folder: Path, arrays: dict[str, NDArray[np.uint8]], matching: Matching = MATCHING) -> Path:
    with closing(ErrorMap(grid, 512, matching.names, {"MODEL": "m"})) as errors:
        counted(arrays, window_px=512, block_px=512, keep=errors.add)
        errors.publish(open_store(ObjectRef.parse(str(folder))), "e/errors.tif")
    return folder / "e" / "errors.tif"


def test_an_error_map_is_a_valid_cog_that_names_its_pairs(tmp_path: Path) -> None:
    arrays = scene(1500, 1100)
    path = publish(GRID, tmp_path, arrays)
    assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(path) as cog:
        errors, tags, colors = cog.read(1), cog.tags(1), cog.colormap(1)
        assert (cog.nodata, cog.transform, cog.crs.to_string()) == (255, GRID.affine, "EPSG:32633")
        assert cog.tags()["MODEL"] == "m"
        assert len(cog.overviews(1)) == 2
    mapped, labels = MATCHING.table()[arrays["classes"]], arrays["labels"]
    assert ((errors == 255) == ((mapped == IGNORE) | (labels == IGNORE))).all()
    assert ((errors == 0) == ((mapped == labels) & (labels != IGNORE))).all()
    for i, label in enumerate(MATCHING.names):
        for j, other in enumerate(MATCHING.names):
            value = set(np.unique(errors[(labels == i) & (mapped == j)]).tolist())
            if i != j and value:
                assert {tags[f"CLASS_{each}"] for each in value} == {f"{label} mapped as {other}"}
    assert {value: text for value, (text, _) in legend(MATCHING.names).items()} == {
        int(name.removeprefix("CLASS_")): text for name, text in tags.items() if name.startswith("CLASS_")
    }
    assert colors[0][:3] == legend(MATCHING.names)[0][1]


def test_an_error_map_that_misses_a_shard_is_not_written(tmp_path: Path) -> None:
    with closing(ErrorMap(GRID, 512, MATCHING.names, {})) as errors:
        errors.add(Window(0, 0, 512, 512), np.zeros((512, 512), np.uint8))
        with pytest.raises((PublishError, KeyError)):
            errors.publish(open_store(ObjectRef.parse(str(tmp_path))), "errors.tif")
    assert not (tmp_path / "errors.tif").exists()


def test_of_very_many_classes_an_error_map_says_right_and_wrong() -> None:
    few, many = error_codes(16), error_codes(17)
    assert few[:-1].reshape(16, 16).max() == 240
    assert (np.diag(many[:-1].reshape(17, 17)) == 0).all()
    assert (np.unique(many).tolist(), many[-1]) == ([0, 1, 255], 255)
    assert legend(tuple(map(str, range(17)))).keys() == {0, 1}
