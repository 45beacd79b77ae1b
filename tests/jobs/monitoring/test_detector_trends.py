"""Mann-Kendall and Sen's slope, against scipy and zeit-cdts."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.jobs.monitoring.trends.detectors.mann_kendall import mann_kendall
from tests.jobs.monitoring.detector_series import Floats, floats, zeit


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(4, 60), digits=st.integers(0, 3), missing=st.floats(0, 0.8),
    drift=st.floats(-0.5, 0.5),
)  # fmt: skip
def test_trend_is_that_of_scipy(seed: int, n: int, digits: int, missing: float, drift: float) -> None:
    draw = np.random.default_rng(seed)
    years = 2000 + np.cumsum(draw.integers(1, 40, n)) / 365
    values = np.round(draw.standard_normal((n, 4)) + drift * (years - 2000)[:, None], digits).astype(np.float32)
    values[draw.random((n, 4)) < missing] = np.nan
    found = mann_kendall(values, years)
    for px in range(4):
        known = np.isfinite(values[:, px])
        y, t = values[known, px].astype(float), years[known]
        assert found.n[px] == known.sum()
        if known.sum() < 4:
            assert np.isnan([found.slope[px], found.p_value[px], found.tau[px]]).all()
            continue
        assert found.slope[px] == pytest.approx(scipy.stats.theilslopes(y, t).slope, rel=1e-6, abs=1e-7)
        if len(np.unique(y)) > 1:
            assert found.tau[px] == pytest.approx(scipy.stats.kendalltau(t, y).statistic, abs=1e-6)
            assert found.p_value[px] == pytest.approx(kendall_p(y), rel=1e-5)
        else:
            assert (found.tau[px], found.p_value[px]) == (0, 1)


def kendall_p(y: Floats) -> float:
    """By the formulas of Kendall (1975), with ties and the correction for continuity."""
    n, ties = len(y), np.unique(y, return_counts=True)[1]
    s = np.sign(y[None, :] - y[:, None])[np.triu_indices(n, 1)].sum()
    variance = (n * (n - 1) * (2 * n + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18
    return float(2 * scipy.stats.norm.sf(max(abs(s) - 1, 0) / np.sqrt(variance)))


def test_trend_is_that_of_zeit() -> None:
    said, values, _ = zeit()
    wanted = said["mann_kendall"]
    found = mann_kendall(values, np.arange(138.0))
    np.testing.assert_allclose(found.p_value[:38], floats(wanted["p"])[:38], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.slope[:38], floats(wanted["slope_per_date"])[:38], rtol=1e-5, atol=1e-7)
    assert np.isnan(found.slope[38])
    assert found.n[39] == np.isfinite(values[:, 39]).sum()


def test_long_series_of_few_different_values_have_the_median_of_all_slopes() -> None:
    draw = np.random.default_rng(11)
    values = draw.integers(0, 4, (90, 30)).astype(np.float32) + (np.arange(90) // 30)[:, None]
    found = mann_kendall(values, 2000 + np.arange(90) / 10)
    for px in range(30):
        wanted = scipy.stats.theilslopes(values[:, px].astype(float), 2000 + np.arange(90) / 10).slope
        assert found.slope[px] == pytest.approx(wanted, rel=1e-6, abs=1e-9)
