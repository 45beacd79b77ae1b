"""Reflectance as 8-bit pictures, and what may follow them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

import earthloom
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import from_item, to_item
from earthloom.models.measuring import receptive_field
from earthloom.models.networks.enhance.tone import FixedStretch
from earthloom.models.networks.registry import build
from earthloom.models.zoo.true_colour import TRUE_COLOUR
from earthloom.tiling.errors import CardError
from tests.scenes import real


@pytest.mark.parametrize(("card", "white"), zip(TRUE_COLOUR, (0.2, 0.3558), strict=True), ids=lambda v: str(v)[:5])
def test_the_published_level_is_white_and_brighter_is_no_whiter(card: ModelCard, white: float) -> None:
    levels = torch.tensor([-0.01, 0.0, white / 2, white, 1.1]).reshape(1, 1, 1, 5).expand(1, 3, 1, 5)
    module = build(card).eval()
    np.testing.assert_allclose(module(levels + 1)[0, 0, 0], [0, 0, 0.5, 1, 1], atol=1e-6)
    assert receptive_field.support(module, 3, 1) == card.support_px
    assert from_item(to_item(card, weights_name="weights.safetensors", n_parameters=0)) == card


def test_a_stretch_without_a_range_is_refused() -> None:
    with pytest.raises(CardError, match="low < high"):
        FixedStretch(in_channels=3, low=0.2, high=0.2)


def test_a_model_of_pictures_runs_from_reflectance_behind_it(tmp_path: Path) -> None:
    source = real("ships_s2/durban.tif")
    with rasterio.open(source) as dataset:
        part = dataset.read((3, 2, 1), window=((0, 256), (0, 256)))
        profile = dataset.profile | {"count": 3, "width": 256, "height": 256, "driver": "GTiff"}
    with rasterio.open(tmp_path / "part.tif", "w", **profile) as dataset:
        dataset.write(part)
    result = earthloom.run(
        tmp_path / "part.tif", model=["true-colour", "deforestation"], keep=["true-colour"], out=tmp_path / "out",
        bands="red=1,green=2,blue=3", sensor="sentinel2-l2a", executor="local",
    )  # fmt: skip
    folder = tmp_path / "out" / result.results["part"].prefix
    with rasterio.open(folder / "true-colour.tif") as dataset:
        made = dataset.read().astype(int)
    wanted = 1 + np.clip(part / 2000, 0, 1) * 254  # 0 is nodata
    valid = (part > 0).all(axis=0)
    assert np.abs(made - wanted)[:, valid].max() <= 0.51
    with rasterio.open(folder / "true-colour-deforestation.tif") as dataset:
        assert set(np.unique(dataset.read(1)[valid])) == {0, 1}
