"""BFAST-Monitor, EWMACD and CUSUM, against strucchange, zeit-cdts, COLD, their papers and planted breaks."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given, settings
from hypothesis import strategies as st

from earthloom.jobs.monitoring.trends.detectors import boundaries
from earthloom.jobs.monitoring.trends.detectors.anomalies import NO_BREAK, UNKNOWN
from earthloom.jobs.monitoring.trends.detectors.bfast_monitor import History, Process, bfast_monitor, residual_process
from earthloom.jobs.monitoring.trends.detectors.cusum import cusum
from earthloom.jobs.monitoring.trends.detectors.ewmacd import ewmacd
from earthloom.jobs.monitoring.trends.detectors.regression import LeastSquares
from earthloom.jobs.monitoring.trends.detectors.series import decimal_years
from tests.jobs.monitoring.detector_series import Floats, floats, oracle, romania, seasons, zeit


@pytest.mark.parametrize("process", ["mosum", "cusum"])
def test_process_and_boundary_are_those_of_strucchange(process: Process) -> None:
    said, design, values, known = romania()
    n, wanted = said["monitoring_begins_at"], said[process]
    fit = LeastSquares(design[:n]).fit(values[:n], known[:n])
    critical = boundaries.cusum_critical_value(0.05) if process == "cusum" else wanted["boundary"][0]
    watched = residual_process(values, known, fit, design, n, process=process, h=0.25, limit=critical)
    assert fit.n.tolist() == wanted["n_history"]
    np.testing.assert_allclose(watched.sigma, wanted["sigma"], rtol=1e-9)
    np.testing.assert_allclose(watched.level[-1], wanted["process"], rtol=1e-9)
    np.testing.assert_allclose(watched.reach[-1], wanted["boundary"], rtol=1e-7)


def test_breaks_are_those_of_zeit_and_of_bfast() -> None:
    said, values, _ = zeit()
    wanted = said["bfast_monitor"]
    found = bfast_monitor(values, 2013 + np.arange(138) / 23, 2017.0, history="all", min_observations=10)
    np.testing.assert_array_equal(found.first, np.nan_to_num(floats(wanted["break_number"]), nan=NO_BREAK))
    np.testing.assert_allclose(found.magnitude, floats(wanted["magnitude"]), rtol=2e-6)
    np.testing.assert_array_equal(found.n_history[:38], wanted["n_history"][:38])
    assert (found.first[:15] >= 0).all()
    assert (found.flags[:, 38:] == UNKNOWN).all()


@pytest.mark.parametrize("history", ["all", "roc"])
def test_break_of_a_landsat_pixel_is_the_one_that_cold_finds(history: History) -> None:
    said = oracle("landsat_nbr")
    dates = [datetime.date.fromisoformat(date) for date in said["dates"]]
    values = np.array(said["nbr_1e-4"])[:, None] * 1e-4
    found = bfast_monitor(values, decimal_years(dates), 2012.0, history=history)
    assert dates[int(found.first[0])].isoformat() == said["cold_break"] == "2013-06-21"
    assert found.magnitude[0] < -0.3


@pytest.mark.parametrize("history", ["all", "roc"])
@pytest.mark.parametrize(("trend", "most_false"), [(True, 0.12), (False, 0.02)])
def test_planted_breaks_are_found_soon_and_others_are_rare(history: History, trend: bool, most_false: float) -> None:
    years, values, at = seasons(600)
    found = bfast_monitor(values, years, 2017.0, history=history, trend=trend, level=0.01)
    broken = at < len(years)
    assert (found.first[broken] >= at[broken]).mean() > 0.95
    assert (found.first[broken] >= 0).all()
    assert np.median(found.first[broken] - at[broken]) <= 5
    assert (found.first[~broken] >= 0).mean() < most_false  # a trend of four years is carried on for two
    assert (found.flags[-1][broken] <= 0).all()
    assert np.median(found.magnitude[broken]) < -0.1


def test_history_that_changed_is_used_from_the_change_on() -> None:
    years, values, _ = seasons(40, missing=0.1)
    values[:30] += 0.3
    whole = bfast_monitor(values, years, 2017.0, history="all")
    stable = bfast_monitor(values, years, 2017.0, history="roc")
    assert (stable.n_history < whole.n_history - 15).mean() > 0.9
    assert (stable.n_history <= 70).all()


def test_flags_are_those_of_brooks_script_by_zeit() -> None:
    said, values, dates = zeit()
    years = np.array([date.year + date.timetuple().tm_yday / 365 for date in dates])
    found = ewmacd(values, years, 2017.0)
    wanted = floats(said["ewmacd"]["flags"])[-len(found.flags) :]
    said_something = found.flags != UNKNOWN
    np.testing.assert_array_equal(found.flags[said_something], wanted[said_something])
    assert said_something[:, :38].mean() > 0.7
    assert not said_something[:, 38:].any()
    events = np.fmin(floats(said["ewmacd"]["loss"]), floats(said["ewmacd"]["gain"]))
    ours = np.where(found.first >= 0, years[found.first], np.nan)
    np.testing.assert_allclose(ours[:15], events[:15], atol=2 / 365)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), lambda_=st.floats(0.05, 1), limit=st.floats(0.3, 3), far=st.floats(1.5, 99))
@example(seed=34952, lambda_=1.0, limit=1.0, far=20.0)  # an observation at 38 deviations, which the chart leaves out
@example(seed=34952, lambda_=1.0, limit=1.0, far=99.0)  # and here takes
def test_chart_follows_its_paper(seed: int, lambda_: float, limit: float, far: float) -> None:
    draw = np.random.default_rng(seed)
    years = 2015 + np.arange(20) / 4
    values = draw.standard_normal((20, 3))
    values[draw.random((20, 3)) < 0.2] = np.nan
    found = ewmacd(
        values, years, 2017.0, order=0, lambda_=lambda_, control_limit=limit, xbar_limit_1=99, xbar_limit_2=far,
        persistence=1,
    )  # fmt: skip
    for px in range(3):
        known = np.flatnonzero(np.isfinite(values[:, px]))
        training = values[known[known < 8], px]
        if len(training) < 2:
            assert (found.flags[:, px] == UNKNOWN).all()
            continue
        sigma = training.std(ddof=1)
        left_out = np.abs(values[:, px] - training.mean()) > far * sigma
        left_out[:8] = False
        assert (found.flags[left_out[8:], px] == UNKNOWN).all()
        known = known[~left_out[known]]
        residuals = values[known, px] - training.mean()
        z = residuals[0]
        for number, (date, residual) in enumerate(zip(known, residuals, strict=True), 1):
            z = residual if number == 1 else lambda_ * residual + (1 - lambda_) * z
            reach = limit * sigma * np.sqrt(lambda_ / (2 - lambda_) * (1 - (1 - lambda_) ** (2 * number)))
            if date >= 8:
                assert found.flags[date - 8, px] == np.trunc(np.clip(z / reach, -127, 127))
        assert found.magnitude[px] == pytest.approx(z, rel=1e-5, abs=1e-7)


def test_a_single_cloud_makes_a_flag_and_no_break() -> None:
    years, values, _ = seasons(50, fall=0.0, missing=0.0)
    cloudy = values.copy()
    cloudy[110] += 0.3
    calm, found = ewmacd(values, years, 2017.0, lambda_=1.0), ewmacd(cloudy, years, 2017.0, lambda_=1.0)
    assert (found.flags[110 - 92] > 0).mean() > 0.95
    np.testing.assert_array_equal(found.first, calm.first)


def cusum_by_hand(values: Floats) -> tuple[float, int, float]:
    """(p, first observation after the change, magnitude) of a series without gaps, by the paper's formula."""
    residuals = values - values.mean()
    sums = np.cumsum(residuals) / (residuals.std(ddof=1) * np.sqrt(len(values)))
    last = int(np.abs(sums).argmax())
    return (
        float(scipy.stats.kstwobign.sf(np.abs(sums).max() + 0.5826 / np.sqrt(len(values)))),
        last + 1,
        float(values[last + 1 :].mean() - values[: last + 1].mean()),
    )


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(6, 40), step=st.floats(0, 5))
def test_cusum_follows_its_paper(seed: int, n: int, step: float) -> None:
    draw = np.random.default_rng(seed)
    values = draw.standard_normal((n, 5)) + step * (np.arange(n) >= n // 2)[:, None]
    found = cusum(values, np.arange(1990.0, 1990.0 + n))
    for px in range(5):
        p, first, magnitude = cusum_by_hand(values[:, px])
        assert found.p_value[px] == pytest.approx(p, abs=2e-6)
        assert found.magnitude[px] == pytest.approx(magnitude, rel=1e-5)
        assert found.first[px] == (first if p < 0.05 else NO_BREAK)
        flagged = np.flatnonzero(found.flags[:, px])
        np.testing.assert_array_equal(flagged, np.arange(first, n) if p < 0.05 else [])


def test_false_alarms_of_cusum_are_near_its_level_and_not_above() -> None:
    draw = np.random.default_rng(3)
    for n, least in ((8, 0.0), (30, 0.03), (120, 0.035)):
        found = cusum(draw.standard_normal((n, 4000)), np.arange(1985.0, 1985.0 + n), level=0.05)
        assert least <= (found.first >= 0).mean() < 0.055


def test_a_clear_step_of_eight_years_is_found() -> None:
    values = np.random.default_rng(4).normal(0, 0.02, (8, 200)) + 0.6 * (np.arange(8) >= 4)[:, None]
    found = cusum(values, np.arange(1985.0, 2021.0, 5))
    assert (found.first == 4).mean() > 0.95
    assert found.magnitude.mean() == pytest.approx(0.6, abs=0.02)
