"""Our COGs in titiler: coloured by their palette without a parameter, and by what the STAC item says of renders."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from tests.maps import go, lake
from tests.scenes import landscape, write_scene

pytestmark = [pytest.mark.apps, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("titiler")
    assert go(lake(base / "in", width=256, height=200), out=base / "out").exit_code == 0
    pixels = landscape(256, 200, 3)
    pixels[0] //= 3
    scene = write_scene(base / "in" / "bay.tif", pixels, ("blue", "green", "red"))
    assert go(scene, out=base / "out", model="destripe").exit_code == 0
    return base / "out"


def preview(path: Path, **parameters: Any) -> NDArray[np.uint8]:
    """(h, w, 4) as titiler draws the whole file; by its numbers, as GDAL writes no PNG in this process."""
    factory = pytest.importorskip("titiler.core.factory", reason="pip install titiler-core")
    from fastapi import FastAPI
    from starlette.testclient import TestClient

    app = FastAPI()
    app.include_router(factory.TilerFactory().router)
    answer = TestClient(app).get("/preview.npy", params={"url": str(path), "max_size": 2048, **parameters})
    assert answer.status_code == 200, answer.text
    *bands, mask = np.load(io.BytesIO(answer.content))
    return np.stack([*(bands if len(bands) == 3 else [bands[0]] * 3), mask], axis=-1).astype(np.uint8)


def render(item: Path, name: str) -> dict[str, Any]:
    """The parameters that titiler makes of one of an item's renders."""
    said = json.loads(item.read_text())["properties"]["renders"][name]
    found: dict[str, Any] = {"bidx": said["bidx"]}
    if "colormap" in said:
        found["colormap"] = json.dumps(said["colormap"])
    if "rescale" in said:
        found["rescale"] = [",".join(map(str, limits)) for limits in said["rescale"]]
    return found


@pytest.mark.parametrize("by_render", [False, True])
def test_a_map_has_the_colours_of_its_legend(by_render: bool, out: Path) -> None:
    (tif,) = out.glob("scenes/lake/*/water-index.tif")
    drawn = preview(tif, **(render(tif.with_name("item.json"), "classes") if by_render else {}))
    with rasterio.open(tif) as cog:
        classes, palette = cog.read(1), cog.colormap(1)
    for value in (0, 1):
        assert (drawn[classes == value] == palette[value]).all()
    assert (drawn[classes == 255][:, 3] == 0).all()


def test_confidence_is_grey_from_none_to_all(out: Path) -> None:
    (tif,) = out.glob("scenes/lake/*/water-index-confidence.tif")
    drawn = preview(tif, **render(tif.with_name("item.json"), "confidence"))
    with rasterio.open(tif) as cog:
        stored = cog.read(1)
    known = stored != 255
    np.testing.assert_allclose(drawn[known][:, 0], stored[known] / 250 * 255, atol=1.5)


def test_an_image_is_drawn_with_red_as_red_over_most_of_its_range(out: Path) -> None:
    (tif,) = out.glob("scenes/bay/*/destripe.tif")
    drawn = preview(tif, **render(tif.with_name("item.json"), "image")).astype(float)
    with rasterio.open(tif) as cog:
        red = cog.read(cog.descriptions.index("red") + 1).astype(float)
    valid = drawn[..., 3] > 0
    assert np.corrcoef(drawn[..., 0][valid], red[valid])[0, 1] > 0.97
    assert np.ptp(drawn[..., :3][valid], axis=0).min() > 200
