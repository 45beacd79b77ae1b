from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.jobs.planning.image_plan import ImagePlan
from earthloom.jobs.planning.key import scene_key
from earthloom.jobs.records.canonical import canonical, digest
from earthloom.models.inference.chain import Stage
from earthloom.models.zoo.rules import WATER_INDEX
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.grid import Grid
from earthloom.tiling.scene import Asset, Band, Clear, Scene
from earthloom.tiling.storage.objects import ObjectRef

GRID = Grid(crs="EPSG:32617", transform=(10.0, 0.0, 300000.0, 0.0, -10.0, 4500000.0), width=900, height=700)
BANDS = (
    Band(name="green", asset=0, index=1, dtype="uint16", scale=1e-4),
    Band(name="swir16", asset=0, index=2, dtype="uint16", scale=1e-4),
)
SCENE = Scene(
    id="lake", grid=GRID, assets=(Asset(ref=ObjectRef.parse("/data/lake.tif"), identity="sha256:aa"),), bands=BANDS,
    quantity="toa_reflectance",
)  # fmt: skip
CHIPS = ChipGrid(scene=GRID.window, core_px=512, halo_px=0, stride_px=1)


IMAGE = ImagePlan(
    stage=0, name="sharp", bands=("green",), layers=("green",), dtype="uint16", nodata=0.0, gain=(1e-4,), bias=(0.0,)
)


def stage(**changes: Any) -> Stage:
    found: dict[str, Any] = {"cards": (WATER_INDEX[0],), "chips": CHIPS, "precision": "fp32"}
    return Stage(**(found | changes))


def key(scene: Scene = SCENE, **changes: Any) -> str:
    of_stage: dict[str, Any] = {
        name: changes.pop(name) for name in ("chips", "precision", "flips", "compiled", "is_mask") if name in changes
    }
    if "card" in changes:
        of_stage["cards"] = (changes.pop("card"),)
    options: dict[str, Any] = {
        "bands": scene.bands,
        "stages": (stage(**of_stage),),
        "shard_px": 512,
        "device_class": "cpu-avx512",
    }
    return scene_key(scene, **(options | changes))


def test_whatever_can_change_a_pixel_changes_the_key() -> None:
    moved = dataclasses.replace(GRID, transform=(10.0, 0.0, 300010.0, 0.0, -10.0, 4500000.0))
    nodata = tuple(dataclasses.replace(band, nodata=0.0) for band in BANDS)
    keys = [
        key(),
        key(dataclasses.replace(SCENE, assets=(Asset(ref=SCENE.assets[0].ref, identity="sha256:bb"),))),
        key(dataclasses.replace(SCENE, grid=moved)),
        key(dataclasses.replace(SCENE, quantity="boa_reflectance")),
        key(dataclasses.replace(SCENE, id="pond")),
        key(bands=nodata),
        key(bands=BANDS[::-1]),
        key(card=WATER_INDEX[1]),
        key(card=dataclasses.replace(WATER_INDEX[0], arguments='{"sharpness":20.0,"threshold":0.1}')),
        key(card=dataclasses.replace(WATER_INDEX[0], weights="0" * 64)),
        key(chips=dataclasses.replace(CHIPS, core_px=256)),
        key(chips=dataclasses.replace(CHIPS, halo_px=16)),
        key(chips=dataclasses.replace(CHIPS, halo_px=16, blend=True)),
        key(shard_px=1024),
        key(precision="bf16"),
        key(flips=True),
        key(compiled=True),
        key(is_mask=True),
        key(chips=dataclasses.replace(CHIPS, margin_px=8)),
        key(stages=(stage(), stage())),
        key(stages=(stage(cards=(WATER_INDEX[0], WATER_INDEX[0])),)),
        key(images=(IMAGE,)),
        key(images=(dataclasses.replace(IMAGE, nodata=1.0),)),
        key(device_class="cuda-sm90"),
        key(dataclasses.replace(SCENE, clear=(Clear(band=BANDS[0], bits=1),))),
        key(dataclasses.replace(SCENE, clear=(Clear(band=BANDS[0], bits=3),))),
        key(dataclasses.replace(SCENE, clear=(Clear(band=BANDS[0], values=(3,)),))),
        key(dataclasses.replace(SCENE, clear=(Clear(band=BANDS[1], bits=1),))),
    ]
    assert len(set(keys)) == len(keys)


def test_what_cannot_change_a_pixel_does_not_change_the_key() -> None:
    elsewhere = (Asset(ref=ObjectRef.parse("s3://other/place.tif"), identity="sha256:aa"),)
    spare = (*BANDS, Band(name="nir", asset=0, index=3, dtype="uint16"))
    prose = dataclasses.replace(WATER_INDEX[0], title="x", description="y", citation="z", memory=(("fp32", 9.0),))
    assert {
        key(),
        key(dataclasses.replace(SCENE, assets=elsewhere)),
        key(dataclasses.replace(SCENE, datetime="2026-01-01T00:00:00Z")),
        key(dataclasses.replace(SCENE, bands=spare), bands=BANDS),
        key(card=prose),
    } == {key()}


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return (*value[:-1], other(value[-1]))
    return f"{value}x" if isinstance(value, str) else 7.5 if value is None else value + 1


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Band)])
def test_every_property_of_a_band_that_is_read_is_in_the_key(field: str) -> None:
    changed = dataclasses.replace(BANDS[1], **{field: other(getattr(BANDS[1], field))})
    assets = (*SCENE.assets, Asset(ref=SCENE.assets[0].ref, identity="sha256:bb"))
    scene = dataclasses.replace(SCENE, assets=assets)
    assert key(scene, bands=(BANDS[0], changed)) != key(scene, bands=BANDS)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Grid)])
def test_every_property_of_the_grid_is_in_the_key(field: str) -> None:
    changes: dict[str, Any] = {field: "EPSG:32618" if field == "crs" else other(getattr(GRID, field))}
    moved = dataclasses.replace(GRID, **changes)
    assert key(dataclasses.replace(SCENE, grid=moved)) != key()


@settings(deadline=None)
@given(st.permutations(range(4)), st.sets(st.integers(0, 3), min_size=1, max_size=3))
def test_a_key_depends_on_the_files_that_are_read_and_not_on_where_they_stand(order: list[int], used: set[int]) -> None:
    def made(numbers: list[int]) -> str:
        assets = tuple(Asset(ref=SCENE.assets[0].ref, identity=f"sha256:{number}") for number in numbers)
        bands = tuple(
            Band(name=f"b{number}", asset=numbers.index(number), index=1, dtype="uint8") for number in sorted(used)
        )
        return key(dataclasses.replace(SCENE, assets=assets, bands=bands), bands=bands)

    assert made(order) == made(sorted(order)) == made(sorted(used))


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.one_of(st.integers(), st.floats(allow_nan=True), st.text(), st.none())))
def test_the_order_of_keys_does_not_matter(found: dict[str, Any]) -> None:
    assert canonical(found) == canonical(dict(reversed(found.items())))
    assert digest(found) == digest(dict(sorted(found.items())))


def test_the_release_of_what_computes_a_foreign_graph_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, own = dataclasses.replace(WATER_INDEX[0], architecture="onnx"), WATER_INDEX[0]

    def keys(release: str) -> tuple[str, str]:
        monkeypatch.setattr(
            "earthloom.jobs.planning.key.version", lambda name: release if name == "onnxruntime" else "2.13.0"
        )
        return key(card=graph), key(card=own)

    (first, same), (second, still) = keys("1.32.0"), keys("1.33.0")
    assert first != second
    assert same == still


def test_keys_are_stable_between_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, results that exist will all be computed again: raise PIXEL_VERSION on purpose, or undo it."""
    monkeypatch.setattr("earthloom.jobs.planning.key.version", lambda _: "2.13.0")
    assert key() == GOLDEN


GOLDEN = "4004400bb04e7d19bc0ea9ceafd448c0371b33e4518c9a55d627923e45e4ca85"
