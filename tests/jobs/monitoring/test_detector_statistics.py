"""Least squares, critical values and recursive residuals, against numpy, published tables and R's strucchange."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.jobs.monitoring.trends.detectors import boundaries
from earthloom.jobs.monitoring.trends.detectors.recursive import recursive_residuals, stable_since
from earthloom.jobs.monitoring.trends.detectors.regression import LeastSquares, season_trend
from earthloom.tiling.errors import ConfigError
from tests.jobs.monitoring.detector_series import floats, oracle, romania


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), order=st.integers(0, 3), trend=st.booleans(), missing=st.floats(0, 0.7))
def test_coefficients_are_those_of_lstsq(seed: int, order: int, trend: bool, missing: float) -> None:
    draw = np.random.default_rng(seed)
    years = np.sort(draw.uniform(2015, 2020, 60))
    design = season_trend(years, order, trend=trend, origin=2020.0)
    values, known = draw.standard_normal((60, 20)), draw.random((60, 20)) >= missing
    fit = LeastSquares(design).fit(values * known, known)
    for px in range(20):
        has = known[:, px]
        if not fit.solved[px]:
            assert has.sum() <= design.shape[1] or np.linalg.cond(design[has]) > 1e4
            continue
        wanted = np.linalg.lstsq(design[has], values[has, px], rcond=None)[0]
        scale = np.abs(wanted).max() * np.linalg.cond(design[has]) ** 2
        np.testing.assert_allclose(fit.coefficients[:, px], wanted, atol=1e-14 * scale + 1e-12)


def test_dates_that_do_not_tell_the_regressors_apart_have_no_solution() -> None:
    years = 2015 + np.arange(30) / 2.0  # a season of which only two phases are seen
    fit = LeastSquares(season_trend(years, 2, trend=False, origin=2015.0)).fit(
        np.ones((30, 16)), np.ones((30, 16), bool)
    )
    assert not fit.solved.any()
    assert (fit.coefficients == 0).all()


@pytest.mark.parametrize("level", [0.01, 0.05, 0.1])
def test_critical_value_of_the_cusum_is_that_of_chu_stinchcombe_and_white(level: float) -> None:
    assert boundaries.cusum_critical_value(level) ** 2 == pytest.approx(scipy.stats.chi2(3).isf(level))


@pytest.mark.parametrize(("level", "published"), [(0.01, 1.143), (0.05, 0.948), (0.1, 0.850)])
def test_critical_value_of_recursive_residuals_is_that_of_brown_durbin_and_evans(
    level: float, published: float
) -> None:
    assert boundaries.recursive_cusum_critical_value(level) == pytest.approx(published, abs=6e-4)


def test_critical_value_of_the_moving_sum_is_near_that_of_strucchange() -> None:
    published = oracle("strucchange")["mosum"]["boundary"][0]
    assert boundaries.mosum_critical_value(0.25, 10, 0.05) == pytest.approx(published, abs=0.01)


@pytest.mark.parametrize("h", boundaries.SHARES)
def test_critical_values_of_the_moving_sum_are_quantiles_of_its_limit(h: float) -> None:
    draw, per_unit, n_paths = np.random.default_rng(5), 200, 4000
    steps = draw.standard_normal((n_paths, 4 * per_unit), dtype=np.float32) / np.sqrt(per_unit)
    walk = np.concatenate([np.zeros((n_paths, 1), np.float32), np.cumsum(steps, axis=1)], axis=1)
    lag, times = int(h * per_unit), np.arange(per_unit, 4 * per_unit + 1) / per_unit
    moved = walk[:, per_unit:] - walk[:, per_unit - lag : -lag] - h * walk[:, per_unit : per_unit + 1]
    largest = (np.abs(moved) / np.sqrt(np.maximum(np.log(times), 1))).max(axis=1)
    for level in (0.05, 0.1, 0.2):  # coarser steps miss some of the peaks
        assert boundaries.mosum_critical_value(h, 4, level) == pytest.approx(np.quantile(largest, 1 - level), abs=0.1)


def test_critical_values_that_nobody_has_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'h' of 0\.25, 0\.5, 1"):
        boundaries.mosum_critical_value(0.3, 10, 0.05)
    with pytest.raises(ConfigError, match="less than 1"):
        boundaries.cusum_critical_value(1.5)


def test_p_values_of_the_bridge_are_those_of_kolmogorov() -> None:
    sizes = np.linspace(0, 3, 61)
    np.testing.assert_allclose(boundaries.bridge_p_values(sizes), scipy.stats.kstwobign.sf(sizes), atol=1e-6)


def test_recursive_residuals_are_those_of_strucchange() -> None:
    said, design, values, known = romania()
    found, wanted = recursive_residuals(design, values, known), floats(said["recursive_residuals"])
    late = np.cumsum(known, axis=0) > design.shape[1]
    assert (np.isfinite(wanted) <= (known & late)).all()
    compared = np.isfinite(wanted)
    np.testing.assert_allclose(found[compared], wanted[compared], rtol=1e-6, atol=1e-9)
    assert np.abs(found[~(known & late)]).max() < 1e-30


def test_stable_history_begins_where_strucchange_says() -> None:
    said, design, values, known = romania()
    # the formula that R was given has a constant beside the constant among the regressors, and R counts both
    since = stable_since(np.column_stack([np.ones(len(design)), design]), values, known, 0.05)
    first = [int(known[: since[px], px].sum()) + 1 for px in range(5)]  # counted in observations, from 1
    assert first == said["history_roc"]
