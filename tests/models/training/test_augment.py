"""How crops are changed, against published laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from earthloom.models.training.augment import Variety, hazed, recoloured

SEEDS = st.integers(0, 2**32 - 1)
_UM = (0.665, 0.56, 0.49, 1.61)


def through_haze(ground: float, seed: int, variety: Variety) -> Tensor:
    """Plain ground of four bands, (4, 16, 16), fp64."""
    return hazed(torch.full((4, 16, 16), ground, dtype=torch.float64), variety, np.random.default_rng(seed))


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS, most=st.floats(0.05, 0.9))
def test_haze_dims_the_ground_and_adds_its_own_light_as_koschmieder_and_angstrom_say(seed: int, most: float) -> None:
    variety = Variety(haze=most, wavelengths_um=_UM)
    dark, bright = through_haze(0.0, seed, variety), through_haze(1.0, seed, variety)
    through = bright - dark
    assert float(through.min()) >= 1 - most
    assert float(through.max()) <= 1
    own = dark / (1 - through)
    assert float(own.min()) >= 0.5 - 1e-4, "the haze's own light is the same in all bands and places"
    assert float(own.max()) <= 1 + 1e-4
    assert float(own.max() - own.min()) < 1e-3
    depth = -through.log()
    falls = [(depth[2] / depth[band]).log() / np.log(_UM[band] / _UM[2]) for band in (0, 1, 3)]
    for fall in falls:
        assert torch.allclose(fall, falls[0].mean(), atol=1e-3), "one exponent between all pairs of bands"
    assert 0 <= float(falls[0].mean()) + 1e-3 <= 2 + 2e-3
    assert float(depth[2].max() / depth[2].min()) <= 2 + 1e-3, "nowhere is it less than half as thick as elsewhere"


@given(seed=SEEDS)
def test_bands_of_unknown_wavelength_are_hazed_alike(seed: int) -> None:
    found = through_haze(0.2, seed, Variety(haze=0.5))
    assert torch.equal(found, found[:1].expand(4, -1, -1))


def test_haze_comes_in_all_strengths_up_to_the_most() -> None:
    variety = Variety(haze=0.4, wavelengths_um=_UM)
    taken = [
        1 - float((through_haze(1.0, seed, variety) - through_haze(0.0, seed, variety))[2].min()) for seed in range(300)
    ]
    counts, _ = np.histogram(taken, 4, (0, 0.4))
    assert counts.min() > 30
    assert counts.sum() == 300


@pytest.mark.parametrize("ceiling", [0.0, 1.0])
def test_a_picture_saturates_at_the_ceiling_and_only_there(ceiling: float) -> None:
    values = torch.linspace(0, 1, 3 * 64).reshape(3, 8, 8)
    variety = Variety(gain=0.4, offset=0.1, noise=0.02)
    for seed in range(20):
        free = recoloured(values, variety, np.random.default_rng(seed))
        found = recoloured(
            values, Variety(gain=0.4, offset=0.1, noise=0.02, ceiling=ceiling), np.random.default_rng(seed)
        )
        assert torch.equal(found, free.clip(0, 1) if ceiling else free)
    assert float(free.max()) > 1 or float(free.min()) < 0
