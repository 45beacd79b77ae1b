"""The offset of Sentinel-2 where no preset speaks of it: what an item or a name says of the baseline is not passed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.jobs.sources import make, opened, scaling, stac_item

pytestmark = pytest.mark.usefixtures("own_cache")

NAME = "S2B_MSIL2A_20240101T100319_N0510_R122_T32TQM_20240101T120000"
OLD = "S2B_MSIL2A_20200101T100319_N0213_R122_T32TQM_20200101T120000"
S2 = {"platform": "sentinel-2b"}


def notes(path: Path, **options: Any) -> list[str]:
    return [note for note in opened(path, **options).notes if "no offset is taken" in note]


@pytest.mark.parametrize(
    ("properties", "fields", "options", "said"),
    [
        ({"s2:processing_baseline": "05.10"}, {"scale": 1e-4}, {}, "the STAC item says processing baseline 05.10"),
        ({"s2:processing_baseline": "05.10"}, {}, {"scale": 1e-4}, "the STAC item says processing baseline 05.10"),
        ({}, {"scale": 1e-4}, {}, "its name says processing baseline 05.10"),
        ({"s2:processing_baseline": "05.10"}, {"scale": 1e-4, "offset": -0.1}, {}, ""),
        ({"s2:processing_baseline": "05.10"}, {"scale": 1e-4}, {"offset": 0.0}, ""),
        ({"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": True}, {"scale": 1e-4}, {}, ""),
        ({"s2:processing_baseline": "03.01"}, {"scale": 1e-4}, {}, ""),
        ({"s2:processing_baseline": "05.10"}, {}, {}, ""),
        ({"s2:processing_baseline": "05.10"}, {"scale": 1e-4}, {"quantity": "dn"}, ""),
    ],
)
def test_a_scale_without_the_offset_of_the_baseline_is_told(
    tmp_path: Path, properties: dict[str, Any], fields: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    make(tmp_path / "B04.tif")
    stac_item(tmp_path / "i.json", NAME, S2 | properties, B04=["B04.tif", "red"], **fields)
    found = notes(tmp_path / "i.json", **options)
    assert [said in note for note in found] == ([True] if said else [])
    if said:
        mended = opened(tmp_path / "i.json", **options, offset=-0.1)
        assert scaling(mended) == [(1e-4, -0.1)]
        assert not notes(tmp_path / "i.json", **options, offset=-0.1)


@pytest.mark.parametrize(("name", "told"), [(NAME, True), (OLD, False), ("scene", False)])
def test_the_name_of_a_file_says_the_baseline(tmp_path: Path, name: str, told: bool) -> None:
    assert bool(notes(make(tmp_path / f"{name}.tif"), scale=1e-4, quantity="reflectance")) == told
