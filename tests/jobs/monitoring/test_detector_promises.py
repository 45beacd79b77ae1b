"""What every monitor promises of a pixel, whatever stands beside it and comes later."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from earthloom.jobs.monitoring.trends.detectors.anomalies import NO_BREAK, UNKNOWN
from earthloom.jobs.monitoring.trends.detectors.bfast_monitor import bfast_monitor
from earthloom.jobs.monitoring.trends.detectors.cusum import cusum
from earthloom.jobs.monitoring.trends.detectors.ewmacd import ewmacd
from earthloom.jobs.monitoring.trends.detectors.mann_kendall import mann_kendall
from earthloom.jobs.monitoring.trends.detectors.series import decimal_years
from earthloom.tiling.errors import InputError
from tests.jobs.monitoring.detector_series import Floats, answers, seasons

Monitor = Callable[[NDArray[Any], Floats], Any]


MONITORS: dict[str, Monitor] = {
    "bfast-monitor": lambda values, years: bfast_monitor(values, years, 2016.0, history="all"),
    "bfast-monitor, roc": lambda values, years: bfast_monitor(values, years, 2016.0),
    "bfast-monitor, cusum": lambda values, years: bfast_monitor(values, years, 2016.0, process="cusum", h=1.0),
    "ewmacd": lambda values, years: ewmacd(values, years, 2016.0),
    "cusum": lambda values, years: cusum(values, years, order=1),
    "mann-kendall": lambda values, years: mann_kendall(values, years),
}


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
