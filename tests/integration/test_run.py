"""The whole road on small scenes, in this process: from a GeoTIFF to what an analyst opens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
from rio_cogeo.cogeo import cog_validate

from earthloom.jobs.upkeep.status import status
from earthloom.tiling.grid import Grid
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.window import Window
from tests.jobs.products.stac_validate import validate
from tests.maps import go, go_until_commit
from tests.oracles import geodesic_area_m2, votes_of_cells
from tests.scenes import landscape, write_scene

BANDS = ("green", "swir16")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    pixels = landscape(1300, 700, 2)
    pixels[:, 100:200, 300:1250] = 0
    pixels[1, 650, 7] = 0  # one band is enough to make a pixel invalid
    return write_scene(tmp_path / "in" / "lake.tif", pixels, BANDS, nodata=0)


@pytest.fixture
def folder(scene: Path, tmp_path: Path) -> Path:
    result = go(scene, out=tmp_path / "out")
    assert result.exit_code == 0
    return tmp_path / "out" / result.results["lake"].prefix


def test_the_class_map_is_the_models_answer_on_the_sources_own_grid(scene: Path, folder: Path) -> None:
    with rasterio.open(scene) as source, rasterio.open(folder / "water-index.tif") as cog:
        green, swir = source.read().astype(np.float32) * np.float32(1e-4)
        valid = source.dataset_mask() > 0
        valid[650, 7] = False
        classes = cog.read(1)
        assert ((classes == 255) == ~valid).all(), "nodata of the source is not nodata of the map, to the pixel"
        assert ((classes == 1) == (green > swir))[valid].mean() > 0.9999
        assert (cog.crs, cog.transform, cog.shape) == (source.crs, source.transform, source.shape)
        assert cog.bounds == source.bounds


def test_the_cog_is_valid_and_tells_its_classes(folder: Path) -> None:
    for name in ("water-index.tif", "water-index-confidence.tif"):
        assert cog_validate(folder / name, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(folder / "water-index.tif") as cog:
        assert cog.nodata == 255
        assert cog.tags(1)["CLASS_1"] == "water"
        assert cog.colormap(1)[1][:3] == (0x1F, 0x78, 0xB4)
        assert float(cog.tags(1)["STATISTICS_MAXIMUM"]) == 1
    assert b'label="water"' in (folder / "water-index.qml").read_bytes()
    with rasterio.open(folder / "water-index-confidence.tif") as cog:
        assert cog.scales[0] == pytest.approx(1 / 250)
        confidence = cog.read(1, masked=True)
        assert 125 <= confidence.min() <= confidence.max() <= 250


def test_every_stac_document_of_a_run_is_valid(folder: Path) -> None:
    out = folder.parents[2]
    for document in (folder / "item.json", out / "collections/water-index/collection.json", out / "catalog.json"):
        validate(json.loads(document.read_bytes()))


def test_zarr_and_cog_hold_the_same_pixels_at_every_level(folder: Path) -> None:
    for level in range(3):
        with xr.open_zarr(folder / "data.zarr", group=str(level), mask_and_scale=False) as data:
            options = {"overview_level": level - 1} if level else {}
            for layer, name in (("classes", "water-index.tif"), ("confidence", "water-index-confidence.tif")):
                with rasterio.open(folder / name, **options) as cog:
                    assert (data[layer].values == cog.read(1)).all()
                    assert data[layer].rio.crs == cog.crs
                    if level == 0:
                        assert data[layer].rio.bounds() == pytest.approx(tuple(cog.bounds))
                        assert data[layer].rio.transform() == cog.transform
    with xr.open_zarr(folder / "data.zarr", group="0") as data:
        assert float(data.confidence.max()) <= 1


def test_overviews_follow_one_rule_and_never_invent_classes(folder: Path) -> None:
    with rasterio.open(folder / "water-index.tif") as cog:
        pixels = cog.read(1)
    for level in range(2):
        pixels = votes_of_cells(pixels)
        with rasterio.open(folder / "water-index.tif", overview_level=level) as overview:
            assert (overview.read(1) == pixels).all()
            assert set(np.unique(overview.read(1))) <= {0, 1, 255}


@pytest.mark.parametrize(
    ("crs", "transform"),
    [("EPSG:4326", (0.00027, 0, -112.9, 0, -0.00027, 41.0)), ("EPSG:3857", (30.0, 0, -13651650, 0, -30.0, 4576290))],
)
def test_class_areas_are_true_areas(crs: str, transform: tuple[float, ...], tmp_path: Path) -> None:
    pixels = landscape(600, 550, 2)
    scene = write_scene(tmp_path / "a.tif", pixels, BANDS, crs=crs, transform=rasterio.Affine(*transform))
    result = go(scene, out=tmp_path / "out").results["a"]
    a, b, c, d, e, f = transform
    grid = Grid(crs=crs, transform=(a, b, c, d, e, f), width=600, height=550)
    row_areas = np.array([geodesic_area_m2(grid, Window(0, row, 600, 1)) for row in range(550)])  # of equal pixels each
    with rasterio.open(tmp_path / "out" / result.prefix / "water-index.tif") as cog:
        classes = cog.read(1)
    for row in result.class_areas:
        shares = (classes == row["value"]).mean(axis=1)
        assert row["area_m2"] == pytest.approx((shares * row_areas).sum(), rel=1e-7)
    assert sum(row["percent"] for row in result.class_areas) == pytest.approx(100)


def test_the_catalogue_leads_from_the_root_to_every_file(folder: Path) -> None:
    out = folder.parents[2]
    catalog = pystac.Catalog.from_file(str(out / "catalog.json"))
    (item,) = catalog.get_items(recursive=True)
    assert item.datetime is not None
    assert item.datetime.isoformat() == "2026-07-01T10:00:00+00:00"
    assert item.id.startswith("lake-water-index-")
    for asset in item.assets.values():
        assert Path(str(asset.get_absolute_href())).exists()
    assert json.loads((folder / "item.json").read_bytes())["assets"]["classes"]["proj:code"] == "EPSG:32617"
    (card,) = (link for link in item.links if "mlm:name" in link.extra_fields)
    assert Path(str(card.get_absolute_href())).exists()


def test_running_again_computes_nothing_and_changes_nothing(scene: Path, folder: Path) -> None:
    out = folder.parents[2]
    before = {path: path.read_bytes() for path in (out / "scenes").rglob("*") if path.is_file()}
    catalogues = {path: path.read_bytes() for path in (out / "collections").rglob("*") if path.is_file()}
    again = go(scene, out=out)
    assert again.exit_code == 0
    assert again.scenes["lake"].status == "already published"
    assert again.telemetry["computed_px"] == 0
    assert before == {path: path.read_bytes() for path in (out / "scenes").rglob("*") if path.is_file()}
    assert catalogues == {path: path.read_bytes() for path in (out / "collections").rglob("*") if path.is_file()}


def test_a_scene_that_was_interrupted_is_continued_with_any_block_size(
    scene: Path, folder: Path, tmp_path: Path
) -> None:
    golden = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (begun,) = go_until_commit(scene, out=tmp_path)
    (begun / "blocks" / "1_2.json").unlink()
    (begun / "data.zarr/0/classes/c/1/2").unlink()
    again = go(scene, out=tmp_path, block=1024)
    assert again.exit_code == 0
    assert again.telemetry["computed_px"] == (1300 - 1024) * 700, "only the block that holds the missing shard"
    for name, data in golden.items():
        if name.parts[0] != "blocks" and name.name != "result.json":
            assert (begun / name).read_bytes() == data


def test_one_bad_scene_does_not_stop_the_other(scene: Path, tmp_path: Path) -> None:
    bad = write_scene(tmp_path / "in" / "bad.tif", landscape(64, 64, 1), ("green",))
    result = go(scene, bad, out=tmp_path / "out")
    assert result.exit_code == 3
    assert result.scenes["lake"].status == "published"
    assert result.scenes["bad"].status == "refused"
    assert "missing swir16" in str(result.scenes["bad"].error)


def test_a_scene_that_breaks_while_running_fails_alone_and_is_named(scene: Path, tmp_path: Path) -> None:
    """In the second band, at which the look for undeclared fill does not arrive: the scene is planned as ready."""
    broken = write_scene(tmp_path / "in" / "broken.tif", landscape(1200, 600, 2), BANDS, interleave="band")
    data = bytearray(broken.read_bytes())
    with rasterio.open(broken) as dataset:
        start = int(dataset.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=2))
    data[start : start + 500] = b"\x00" * 500  # the deflate stream of one tile
    broken.write_bytes(data)
    result = go(scene, broken, out=tmp_path / "out")
    assert result.exit_code == 3
    assert result.scenes["lake"].status == "published"
    assert result.scenes["broken"].status == "failed"
    assert "broken" in str(result.scenes["broken"].error)
    assert "cannot decode" in str(result.scenes["broken"].error)
    assert not list((tmp_path / "out" / "scenes" / "broken").glob("*/result.json"))
    (found,) = status(ObjectRef.parse(str(tmp_path / "out")))["runs"]
    assert found["state"] == "failed"
    assert found["scenes"]["broken"]["status"] == "failed"
    assert found["scenes"]["lake"]["status"] == "published"


def test_a_scene_without_any_data_costs_no_inference_and_is_all_nodata(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "void.tif", np.zeros((2, 600, 600), np.uint16), BANDS, nodata=0)
    result = go(scene, out=tmp_path / "out")
    assert result.exit_code == 0
    assert result.telemetry["chip_px"] == 0
    folder = tmp_path / "out" / result.results["void"].prefix
    with rasterio.open(folder / "water-index.tif") as cog:
        assert (cog.read(1) == 255).all()
    assert not (folder / "data.zarr/0/classes/c").exists(), "shards of nothing are not stored"


def test_a_run_whose_last_block_came_too_late_is_done(tmp_path: Path) -> None:
    pond = write_scene(tmp_path / "pond.tif", landscape(300, 200, 2), ("green", "swir16"))
    result = go(pond, out=tmp_path / "out", max_runtime=1e-6)
    assert (result.exit_code, result.stopped, result.scenes["pond"].status) == (0, None, "published")


def test_a_run_that_is_out_of_time_says_so_and_is_continued(scene: Path, tmp_path: Path) -> None:
    stopped = go(scene, out=tmp_path / "out", max_runtime=1e-6)
    assert stopped.exit_code == 1
    assert "`max_runtime`" in str(stopped.stopped)
    assert stopped.scenes["lake"].status == "unfinished"
    finished = go(scene, out=tmp_path / "out")
    assert finished.exit_code == 0
    assert finished.telemetry["computed_px"] < 1300 * 700
