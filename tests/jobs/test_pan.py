"""Pansharpening against the sizes of pixels in the headers."""

from __future__ import annotations

from pathlib import Path

import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earthloom.jobs.config import load
from earthloom.jobs.planning.plan import RunPlan, plan
from tests.scenes import landscape, write_scene


def planned(folder: Path, model: str, pan_m: float, other_m: float) -> RunPlan:
    for name, size_m, bands in (("pan", pan_m, ("pan",)), ("ms", other_m, ("blue", "green", "red"))):
        side = int(240 / size_m)
        write_scene(folder / f"{name}.tif", landscape(side, side, len(bands)), bands, nodata=0,
                    transform=rasterio.Affine(size_m, 0, 300000, 0, -size_m, 4500000))  # fmt: skip
    return plan(
        load({
            "scenes": (f"{folder}/pan.tif,{folder}/ms.tif",), "model": (model,), "out": str(folder / "out"),
            "executor": "local", "device": "cpu",
        })
    )  # fmt: skip


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    model=st.sampled_from(["pansharpen", "pansharpen-4x", "pansharpen-brovey"]),
    ratio=st.sampled_from([1.5, 2, 3, 4, 6]),
)
def test_only_the_ratio_that_a_model_is_for_is_planned(model: str, ratio: float, tmp_path: Path) -> None:
    found = planned(tmp_path, model, 2, 2 * ratio)
    if ratio == (4 if model.endswith("4x") else 2):
        assert (len(found.scenes), found.refused) == (1, ())
        return
    (refused,) = found.refused
    assert f"those of blue are {2 * ratio:.3g} m and those of pan 2 m, a ratio of {ratio:.3g}" in refused.message
    fitting = {2.0: "`model=pansharpen` is for that", 4.0: "`model=pansharpen-4x` is for that"}
    assert refused.message.endswith(
        fitting.get(ratio, "there are models for 2 and 4; resample these bands to one of them")
    )


def test_a_panchromatic_band_that_is_not_the_finest_is_refused(tmp_path: Path) -> None:
    (refused,) = planned(tmp_path, "pansharpen", 8, 4).refused
    assert "the panchromatic band has pixels of 8 m and the scene of 4 m" in refused.message


def test_bands_of_one_size_are_noted(tmp_path: Path) -> None:
    found = planned(tmp_path, "pansharpen", 4, 4)
    assert len(found.scenes) == 1
    assert any("pan and blue, green, red have pixels of one size" in note for _, note in found.notes)
