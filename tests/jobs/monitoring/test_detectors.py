"""The monitors against R's strucchange, zeit-cdts, COLD and scipy, and against series whose breaks were planted."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from earthloom.jobs.monitoring.trends.detectors import boundaries
from earthloom.jobs.monitoring.trends.detectors.anomalies import NO_BREAK, UNKNOWN
from earthloom.jobs.monitoring.trends.detectors.bfast_monitor import History, Process, bfast_monitor, residual_process
from earthloom.jobs.monitoring.trends.detectors.cusum import cusum
from earthloom.jobs.monitoring.trends.detectors.ewmacd import ewmacd
from earthloom.jobs.monitoring.trends.detectors.mann_kendall import mann_kendall
from earthloom.jobs.monitoring.trends.detectors.recursive import recursive_residuals, stable_since
from earthloom.jobs.monitoring.trends.detectors.regression import LeastSquares, season_trend
from earthloom.jobs.monitoring.trends.detectors.series import decimal_years
from earthloom.tiling.errors import ConfigError, InputError

DATA = Path(__file__).parent / "data"
Floats = NDArray[np.float64]


def oracle(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return found


def floats(values: Any) -> Floats:
    """JSON's null as NaN."""
    return np.array(values, dtype=float)


def romania() -> tuple[dict[str, Any], Floats, Floats, NDArray[np.bool_]]:
    """strucchange's answers; regressors (135, 5), values (135, 5) with 0 where not known."""
    said = oracle("strucchange")
    values = floats(said["values"])
    known = np.isfinite(values)
    return said, floats(said["regressors"]), np.where(known, values, 0), known


def seasons(
    n_px: int = 400, *, seed: int = 1, n_dates: int = 138, fall: float = 0.3, missing: float = 0.25
) -> tuple[Floats, NDArray[np.float32], NDArray[np.int64]]:
    """Times from 2013 on, 16 days apart, values (T, n_px), and the date at which each falls, n_dates for never."""
    draw = np.random.default_rng(seed)
    years = 2013 + np.arange(n_dates) / 23
    values = 0.6 + 0.2 * draw.uniform(0.5, 1, n_px) * np.sin(2 * np.pi * years)[:, None]
    values += 0.03 * draw.standard_normal((n_dates, n_px))
    at = np.where(np.arange(n_px) < n_px // 2, draw.integers(97, n_dates - 8, n_px), n_dates)
    values -= fall * (np.arange(n_dates)[:, None] >= at)
    values[draw.random((n_dates, n_px)) < missing] = np.nan
    return years, values.astype(np.float32), at


# least squares


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


# boundaries


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


# BFAST Monitor


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


def zeit() -> tuple[dict[str, Any], NDArray[np.float32], list[datetime.date]]:
    said = oracle("zeit")
    stored = np.array(said["values_1e-4"])
    values = np.where(stored == -32768, np.nan, stored * 1e-4).astype(np.float32)
    return said, values, [datetime.date.fromisoformat(date) for date in said["dates"]]


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


# EWMACD


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


# CUSUM


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


# Mann and Kendall, Sen


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


# what all monitors promise

Monitor = Callable[[NDArray[Any], Floats], Any]
MONITORS: dict[str, Monitor] = {
    "bfast-monitor": lambda values, years: bfast_monitor(values, years, 2016.0, history="all"),
    "bfast-monitor, roc": lambda values, years: bfast_monitor(values, years, 2016.0),
    "bfast-monitor, cusum": lambda values, years: bfast_monitor(values, years, 2016.0, process="cusum", h=1.0),
    "ewmacd": lambda values, years: ewmacd(values, years, 2016.0),
    "cusum": lambda values, years: cusum(values, years, order=1),
    "mann-kendall": lambda values, years: mann_kendall(values, years),
}


def answers(found: Any) -> dict[str, NDArray[Any]]:
    return {name: getattr(found, name) for name in type(found).__slots__}


@pytest.mark.parametrize("name", MONITORS)
@settings(deadline=None, max_examples=6)
@given(chosen=st.lists(st.integers(0, 299), min_size=1, max_size=40), order=st.randoms())
def test_what_is_said_of_a_pixel_follows_from_its_series_to_the_bit(name: str, chosen: list[int], order: Any) -> None:
    years, values, _ = seasons(300, seed=4)
    whole = answers(MONITORS[name](values, years))
    order.shuffle(chosen)
    for field, found in answers(MONITORS[name](values[:, chosen], years)).items():
        np.testing.assert_array_equal(found, whole[field][..., chosen], err_msg=field)


@pytest.mark.parametrize("name", MONITORS)
def test_a_date_without_observation_is_as_if_it_were_not_there(name: str) -> None:
    years, values, _ = seasons(60, seed=6)
    missing = np.zeros(len(years), bool)
    missing[[3, 4, 40, 95, 100, 137]] = True
    values[missing] = np.nan
    with_gaps, without = (
        answers(MONITORS[name](values, years)),
        answers(MONITORS[name](values[~missing], years[~missing])),
    )
    for field, found in with_gaps.items():
        if field == "flags":
            found = found[~missing[-len(found) :]]
        if field == "first":
            found = np.where(found < 0, found, found - np.cumsum(missing)[found])
        np.testing.assert_allclose(found, without[field], rtol=1e-5, atol=1e-7, err_msg=field)


@pytest.mark.parametrize("name", MONITORS)
def test_nothing_is_said_of_a_pixel_without_observations_or_variation(name: str) -> None:
    years, values, _ = seasons(4, seed=7)
    values[:, 0] = np.nan
    values[10:, 1] = np.nan
    values[:, 2] = 0.25
    found = answers(MONITORS[name](values, years))
    assert np.isnan(found["slope" if name == "mann-kendall" else "magnitude"][0])
    if name == "mann-kendall":
        assert (found["slope"][2], found["p_value"][2], found["n"][1]) == (0, 1, np.isfinite(values[:, 1]).sum())
    else:
        assert (found["first"][:3] == NO_BREAK).all()
        assert (found["flags"][:, [0, 2]] == UNKNOWN).all()


@pytest.mark.parametrize("name", MONITORS)
def test_times_that_do_not_rise_are_refused(name: str) -> None:
    years, values, _ = seasons(4)
    with pytest.raises(InputError, match="must rise"):
        MONITORS[name](values, np.concatenate([years[:60], years[59:-1]]))


def test_monitoring_that_begins_after_the_last_date_is_refused() -> None:
    years, values, _ = seasons(4)
    for monitor in (bfast_monitor, ewmacd):
        with pytest.raises(InputError, match="after the last date"):
            monitor(values, years, 2030.0)
        with pytest.raises(InputError, match="name a longer one, or a lower 'order'"):
            monitor(values, years, 2013.1)


def test_decimal_years_know_leap_years() -> None:
    dates = [datetime.date(2020, 7, 1), datetime.date(2021, 1, 1), datetime.date(2021, 12, 31)]
    assert decimal_years(dates).tolist() == [2020 + 182 / 366, 2021.0, 2021 + 364 / 365]


@pytest.mark.parametrize("name", MONITORS)
def test_pixels_without_gaps_are_judged_alike_among_others_with_gaps(name: str) -> None:
    years, values, _ = seasons(80, seed=8, missing=0.0)
    among = values.copy()
    among[10:20, 40:] = np.nan
    alone, beside = answers(MONITORS[name](values, years)), answers(MONITORS[name](among, years))
    for field, found in alone.items():
        np.testing.assert_array_equal(found[..., :40], beside[field][..., :40], err_msg=field)


@pytest.mark.parametrize("name", ["bfast-monitor", "bfast-monitor, roc", "bfast-monitor, cusum", "ewmacd"])
def test_a_flag_is_known_when_its_date_is_and_does_not_change_later(name: str) -> None:
    years, values, _ = seasons(80, seed=9)
    whole = answers(MONITORS[name](values, years))["flags"]
    for n_dates in (70, 95, 110, 137):
        flags = answers(MONITORS[name](values[:n_dates], years[:n_dates]))["flags"]
        np.testing.assert_array_equal(flags, whole[: len(flags)])
