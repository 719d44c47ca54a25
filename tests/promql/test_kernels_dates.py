import calendar
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from promlike.model.blocks import Int64
from promlike.promql.kernels.dates import DatePart, date_part

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UTC_ONLY = (np.zeros(1, np.int64), np.zeros(1, np.int64))


def twin(part: DatePart, value: float, ahead: int = 0) -> float:
    moment = EPOCH + timedelta(seconds=int(value) + ahead)
    return {
        DatePart.YEAR: moment.year,
        DatePart.MONTH: moment.month,
        DatePart.DAY_OF_MONTH: moment.day,
        DatePart.DAY_OF_YEAR: moment.timetuple().tm_yday,
        DatePart.DAYS_IN_MONTH: calendar.monthrange(moment.year, moment.month)[1],
        DatePart.DAY_OF_WEEK: moment.isoweekday() % 7,
        DatePart.HOUR: moment.hour,
        DatePart.MINUTE: moment.minute,
    }[part]


def compute(part: DatePart, values: list[float], zone: tuple[Int64, Int64] = UTC_ONLY) -> list[float]:
    out = np.empty(len(values))
    date_part(np.array(values, np.float64), *zone, int(part), out)
    result: list[float] = out.tolist()
    return result


@pytest.mark.parametrize("part", list(DatePart))
def test_parts_agree_with_the_calendar(part: DatePart) -> None:
    rng = np.random.default_rng(5)
    days = [86400.0 * day for day in range(-800, 1600)]
    values = [*days, *rng.uniform(-6e10, 2e11, 3000).tolist(), -0.5, -1.0, 1456790399.9]
    assert compute(part, values) == [twin(part, value) for value in values]


@pytest.mark.parametrize("part", list(DatePart))
def test_the_offset_in_force_is_added(part: DatePart) -> None:
    zone = (np.array([0, 100_000, 200_000], np.int64), np.array([3600, -7200, 1800], np.int64))
    values = [*np.random.default_rng(6).uniform(-100_000, 300_000, 500).tolist(), 99_999.0, 100_000.0, 200_000.0]
    expected = [twin(part, value, 3600 if value < 100_000 else -7200 if value < 200_000 else 1800) for value in values]
    assert compute(part, values, zone) == expected


def test_what_is_no_time_has_prometheuss_far_future() -> None:
    expected = {DatePart.YEAR: 292277026596, DatePart.MONTH: 12, DatePart.DAY_OF_MONTH: 4, DatePart.HOUR: 15, DatePart.MINUTE: 30}
    for part, value in expected.items():
        assert compute(part, [math.nan, math.inf, -math.inf, 1e300, -1e19]) == [value] * 5
