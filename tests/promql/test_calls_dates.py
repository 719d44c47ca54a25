from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from promlike.errors import QueryError
from promlike.promql.calls.dates import zone_intervals
from tests.promql.call_data import Call

JANUARY_2006 = 1136239445.0


@pytest.mark.parametrize(
    ("function", "expected"),
    [("year", 2006), ("month", 1), ("day_of_month", 2), ("day_of_year", 2), ("day_of_week", 1), ("hour", 22), ("minute", 4)],
)
def test_parts_of_a_date(function: str, expected: int) -> None:
    call = Call()
    assert call.values(function, call.vector(({}, [JANUARY_2006]))) == [[expected]]


def test_without_argument_the_time_of_each_step_counts() -> None:
    assert Call(2).rows("minute") == [((), [16.0, 16.0])]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"])
def test_a_time_zone_shifts_the_clock(zone: str) -> None:
    moments = np.random.default_rng(3).integers(0, 4_000_000_000, 2000).astype(float).tolist()
    call = Call(len(moments))
    expected = [datetime.fromtimestamp(moment, UTC).astimezone(ZoneInfo(zone)) for moment in moments]
    vector = call.vector(({}, moments))
    assert call.values("hour", vector, zone) == [[float(moment.hour) for moment in expected]]
    assert call.values("minute", vector, zone) == [[float(moment.minute) for moment in expected]]
    assert call.values("day_of_month", vector, zone) == [[float(moment.day) for moment in expected]]


def test_a_change_of_the_clock_is_found_to_the_second() -> None:
    call = Call(2)
    spring_2024 = datetime(2024, 3, 31, 1, tzinfo=UTC).timestamp()
    assert call.values("hour", call.vector(({}, [spring_2024 - 1, spring_2024])), "Europe/Berlin") == [[1.0, 3.0]]
    transitions, offsets = zone_intervals("Europe/Berlin")
    assert offsets[np.searchsorted(transitions, spring_2024, "right") - 1] == 7200


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "/etc/localtime", "Europe"])
def test_an_unknown_zone_is_named(zone: str) -> None:
    call = Call()
    with pytest.raises(QueryError, match="unknown time zone"):
        call.run("hour", call.vector(({}, [0.0])), zone)
