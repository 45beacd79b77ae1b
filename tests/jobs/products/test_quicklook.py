from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pyproj import Geod

from earthloom.jobs.products.quicklook import image_png, quicklook_png, true_color
from earthloom.jobs.products.statistics import class_areas
from earthloom.tiling.counting import ClassArea, tally
from earthloom.tiling.errors import PublishError
from earthloom.tiling.grid import pixel_size_m
from tests.jobs.products.samples import LONLAT, MERCATOR, UTM, card

ONE = (("only", "#12ab34"),)
RGB = (0x12, 0xAB, 0x34)
SWATCH_PX = 20 * 20


def draw(classes: NDArray[np.uint8], names: tuple[tuple[str, str], ...] = ONE, title: str = "scene",
         pixel_m: tuple[float, float] = (10.0, 10.0)) -> bytes:  # fmt: skip
    one = card(names)
    counted, _ = tally(classes, np.full(classes.shape, 200, np.uint8), np.full(classes.shape, 100.0), len(names))
    return quicklook_png(classes, legend=one, title=title, rows=class_areas(counted, one), pixel_m=pixel_m)


def pixels(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


SHAPES = [(1024, 1024), (700, 500), (3, 5), (1, 1), (8, 1024), (1024, 8), (1000, 30), (400, 1024), (1, 2000)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nothing_is_drawn_over_the_map_and_the_picture_fits_a_page(shape: tuple[int, int]) -> None:
    drawn = pixels(draw(np.zeros(shape, np.uint8), title="a title that is far too long for one line " * 5))
    assert 616 <= drawn.shape[1] <= 1368
    factor = 1024 / max(shape)
    factor = max(1, 512 // max(shape)) if factor >= 1 else factor
    map_px = max(1, round(shape[0] * factor)) * max(1, round(shape[1] * factor))
    inked = int((drawn == RGB).all(axis=2).sum())
    assert 0.7 * SWATCH_PX <= inked - map_px <= SWATCH_PX  # the map, whole, and one swatch in the legend
    white = (drawn == 255).all(axis=2)
    assert white[:8].all() and white[-8:].all() and white[:, :8].all() and white[:, -8:].all()  # noqa: PT018


def test_small_maps_are_enlarged_without_new_colours() -> None:
    names = (("a", "#ff0000"), ("b", "#00ff00"), ("c", "#0000ff"), ("d", "#ffff00"))
    drawn = pixels(draw(np.array([[0, 1], [2, 3]], np.uint8), names))
    top, left = 88, 28
    assert [tuple(drawn[top + y, left + x]) for y, x in ((0, 0), (0, 511), (511, 0), (511, 511))] == [
        (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0),
    ]  # fmt: skip
    of_map = drawn[top : top + 512, left : left + 512].reshape(-1, 3)
    assert len(np.unique(of_map, axis=0)) == 4


def test_nodata_is_hatched_and_named_in_the_legend() -> None:
    classes = np.zeros((512, 512), np.uint8)
    full = draw(classes)
    classes[:, 256:] = 255
    half = draw(classes)
    drawn = pixels(half)
    hatch = drawn[88 : 88 + 512, 28 + 256 : 28 + 512].reshape(-1, 3)
    assert len(np.unique(hatch, axis=0)) == 2
    assert hatch.min() > 200  # light, and unlike the class
    assert not np.array_equal(drawn[:, 568:], pixels(full)[:, 568:])


def test_a_map_in_degrees_is_drawn_in_true_proportions() -> None:
    drawn = (pixels(draw(np.zeros((600, 600), np.uint8), pixel_m=(20.0, 30.0))) == RGB).all(axis=2)
    height, width = drawn.sum(axis=0).max(), drawn.sum(axis=1)[200:].max()
    assert height / width == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize("metres", [0.3, 7.0, 30.0, 1234.5])
def test_the_scale_bar_has_the_length_that_it_says(metres: float) -> None:
    drawn = (pixels(draw(np.zeros((512, 512), np.uint8), title=".", pixel_m=(metres, metres))) == (27, 34, 44)).all(
        axis=2
    )
    length_px = int(drawn[88 + 512 :].sum(axis=1).max()) - 1
    length_m = length_px * metres
    power = 10.0 ** np.floor(np.log10(length_m * 1.02))
    assert min(abs(length_m - step * power) for step in (1, 2, 5, 10)) <= metres
    assert 80 <= length_px <= 200


def test_the_same_map_gives_the_same_bytes() -> None:
    classes = (np.arange(90 * 70).reshape(90, 70) % 4).astype(np.uint8)
    names = tuple(
        (name, color) for name, color in zip("abcd", ("#111111", "#222222", "#333333", "#444444"), strict=True)
    )
    assert draw(classes, names) == draw(classes.copy(), names)


def test_names_that_the_font_lacks_are_still_readable() -> None:
    ground = np.zeros((9, 9), np.uint8)
    assert draw(ground, (("forêt", "#12ab34"),)) == draw(ground, (("foret", "#12ab34"),))
    assert draw(ground, (("水域", "#12ab34"),)) == draw(ground, (("class 0", "#12ab34"),))


def test_of_two_hundred_classes_the_largest_are_named() -> None:
    names = tuple((f"class {i}", f"#{i:02x}40{255 - i:02x}") for i in range(200))
    classes = np.minimum(np.arange(120 * 120) % 400, 199).astype(np.uint8).reshape(120, 120)
    drawn = pixels(draw(classes, names))
    assert drawn.shape[0] < 1200
    assert (drawn == (199, 0x40, 56)).all(axis=2)[:, 530:].any()  # the largest one has its swatch


def test_an_image_is_stretched_by_channel_and_hatched_where_one_has_no_data() -> None:
    ramp = np.tile(np.linspace(1000, 3000, 600).astype(np.uint16), (3, 600, 1))
    ramp[1] += 500
    ramp[2, :300] = 0
    drawn = pixels(image_png(ramp, nodata=0, title="scene", subtitle="red, green, blue", pixel_m=(10.0, 10.0)))
    of_map = drawn[88 : 88 + 600, 28 : 28 + 600]
    assert len(np.unique(of_map[:300].reshape(-1, 3), axis=0)) == 2
    assert (of_map[300:, :10] == 0).all()
    assert (of_map[300:, -10:] == 255).all()
    assert (of_map[300:, :, 0] == of_map[300:, :, 1]).all()


def test_images_are_drawn_in_natural_colours_where_their_bands_are_there() -> None:
    assert true_color(("blue", "green", "red", "nir")) == ("red", "green", "blue")
    assert true_color(("green", "red", "nir")) == ("nir", "red", "green")
    assert true_color(("a", "b", "c")) == ("a", "b", "c")
    assert true_color(("vv", "vh")) == ("vv", "vv", "vv")


def test_what_cannot_be_drawn_is_refused() -> None:
    rows: list[ClassArea] = []
    with pytest.raises(PublishError, match=r"holds 7, but landwater-6b has classes 0 to 3"):
        quicklook_png(np.full((2, 2), 7, np.uint8), legend=card(), title="s", rows=rows, pixel_m=(1, 1))
    with pytest.raises(PublishError, match="shape"):
        quicklook_png(np.zeros((0, 4), np.uint8), legend=card(), title="s", rows=rows, pixel_m=(1, 1))
    with pytest.raises(PublishError, match="not positive"):
        quicklook_png(np.zeros((4, 4), np.uint8), legend=card(), title="s", rows=rows, pixel_m=(0, 1))


def test_pixel_sizes_are_lengths_on_the_ellipsoid() -> None:
    lat = 41.0 - 2e-4 * 24
    across = Geod(ellps="WGS84").inv(-112.4, lat, -112.4 + 2e-4, lat)[2]
    assert pixel_size_m(LONLAT)[0] == pytest.approx(across, rel=1e-6)
    assert pixel_size_m(LONLAT)[1] == pytest.approx(22.21, abs=0.01)
    assert pixel_size_m(UTM) == pytest.approx((30, 30), rel=1e-3)
    wide, high = pixel_size_m(MERCATOR)
    assert wide == pytest.approx(high, rel=4e-3)  # Mercator on a sphere: not quite conformal on the ellipsoid
    assert wide == pytest.approx(30 * np.cos(np.deg2rad(40.9)), rel=0.01)
