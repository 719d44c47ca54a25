import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from promlike.errors import QueryCancelled, QueryError
from promlike.promql.calls import over_time
from promlike.promql.calls.table import EVALUATORS
from promlike.promql.context import Chunks
from promlike.promql.functions import FUNCTIONS
from promlike.promql.options import Deadline, Features
from tests.promql.call_data import Call

NO_FEATURES = Features()
RAMP = [(991_000 + 1000 * i, float(i)) for i in range(12)]


def test_every_function_has_an_evaluator() -> None:
    assert set(FUNCTIONS) - set(EVALUATORS) == {"info"}
    assert set(EVALUATORS) <= set(FUNCTIONS)


def test_windows_follow_the_steps() -> None:
    call = Call(3)
    ranges = call.ranges(({"a": "1"}, RAMP), ({"a": "2"}, []), range_ms=3000)
    assert call.values("sum_over_time", ranges) == [[24.0, 27.0, 30.0]]
    assert call.values("increase", ranges) == [[3.0, 3.0, 3.0]]
    assert call.values("ts_of_max_over_time", ranges) == [[1000.0, 1001.0, 1002.0]]
    assert call.values("predict_linear", ranges, [1.0, 2.0, 3.0]) == [[10.0, 12.0, 14.0]]
    assert call.values("quantile_over_time", [0.0, 0.5, 1.0], ranges) == [[7.0, 9.0, 11.0]]


def test_quantiles_out_of_range_are_warned_of_where_there_are_samples() -> None:
    call = Call(3)
    ranges = call.ranges(({"a": "1"}, RAMP[:10]), range_ms=1000)
    assert call.values("quantile_over_time", [-1.0, 0.5, 2.0], ranges) == [[-math.inf, None, None]]
    assert call.annotations.warnings == ("PromQL warning: quantile value should be between 0 and 1, got -1 (1:1)",)


@pytest.mark.parametrize(
    ("sf", "tf", "message"),
    [
        (0.0, 0.5, "invalid smoothing factor. Expected: 0 < sf < 1, got: 0.000000"),
        (0.5, 1.0, "invalid trend factor. Expected: 0 < tf < 1, got: 1.000000"),
    ],
)
def test_smoothing_factors_lie_between_0_and_1(sf: float, tf: float, message: str) -> None:
    call = Call()
    with pytest.raises(QueryError) as caught:
        call.run("double_exponential_smoothing", call.ranges(({}, RAMP), range_ms=5000), sf, tf)
    assert str(caught.value) == message
    assert call.values("double_exponential_smoothing", call.ranges(({}, []), range_ms=5000), sf, tf) == []


@pytest.mark.parametrize("function", ["rate", "increase"])
def test_what_does_not_look_like_a_counter_is_doubted(function: str) -> None:
    names = ["up", "requests_total", "latency_sum", "up", "depth", "unseen"]
    call = Call(features=NO_FEATURES)
    series = [({"__name__": name, "i": str(i)}, [] if name == "unseen" else RAMP) for i, name in enumerate(names)]
    call.run(function, call.ranges(*series, range_ms=5000))
    text = "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket:"
    assert call.annotations.infos == (f'{text} "up" (1:1)', f'{text} "depth" (1:1)')
    assert not call.annotations.warnings


def test_a_known_type_counts_more_than_the_name() -> None:
    call = Call(features=Features(type_and_unit_labels=True))
    series = [{"__name__": "up", "__type__": "counter"}, {"__name__": "x_total", "__type__": "gauge"}, {"__name__": "y"}]
    call.run("rate", call.ranges(*((pairs, RAMP) for pairs in series), range_ms=5000))
    assert call.annotations.infos == (
        'PromQL info: metric might not be a counter, __type__ label is not set to "counter" or "histogram", got "gauge": "x_total" (1:1)',
        'PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "y" (1:1)',
    )


@pytest.mark.parametrize("function", ["delta", "irate", "idelta", "resets", "changes", "deriv"])
def test_other_functions_doubt_nothing(function: str) -> None:
    call = Call()
    call.run(function, call.ranges(({"__name__": "up"}, RAMP), range_ms=5000))
    assert not call.annotations.infos


def test_start_timestamps_count_when_they_are_switched_on() -> None:
    for features, expected in ((NO_FEATURES, 0.0), (Features.all(), 1.0)):
        call = Call(features=features)
        ranges = call.ranges(({"a": "1"}, RAMP), range_ms=5000)
        starts = np.full(len(RAMP), 900_000)
        starts[-4:] = 998_500
        object.__setattr__(ranges.samples, "start_ts_ms", starts)
        assert call.values("resets", ranges) == [[expected]]


def test_modifiers_move_the_borders() -> None:
    call = Call()
    samples = [(990_000, 1.0), (996_000, 5.0), (1_004_000, 9.0)]
    assert call.values("increase", call.ranges(({}, samples), range_ms=5000)) == []
    assert call.values("increase", call.ranges(({}, samples), range_ms=5000, anchored=True)) == [[4.0]]
    assert call.values("increase", call.ranges(({}, samples), range_ms=5000, smoothed=True)) == [[7.0 - (1 + 4 * 5 / 6)]]
    assert call.values("changes", call.ranges(({}, samples), range_ms=5000, anchored=True)) == [[1.0]]


@pytest.mark.parametrize("function", ["rate", "sum_over_time", "max_over_time", "changes", "deriv", "mad_over_time", "delta"])
def test_threads_change_nothing(function: str) -> None:
    rng = np.random.default_rng(8)
    series = [
        ({"i": str(i)}, [(1_000_000 + 1000 * int(k), float(rng.normal())) for k in range(int(rng.integers(0, 900)))]) for i in range(300)
    ]
    with ThreadPoolExecutor(3) as pool:
        threaded = Call(900, chunks=Chunks(pool, 3, Deadline.after(60.0)))
        alone = Call(900)
        assert threaded.rows(function, threaded.ranges(*series, range_ms=7000)) == alone.rows(
            function, alone.ranges(*series, range_ms=7000)
        )


WALKING: Mapping[str, tuple[list[float] | float, ...]] = {
    "sum_over_time": (),
    "stddev_over_time": (),
    "mad_over_time": (),
    "deriv": (),
    "quantile_over_time": ([phi / 40 for phi in range(40)],),
    "predict_linear": ([float(ahead) for ahead in range(40)],),
    "double_exponential_smoothing": ([(1 + step) / 50 for step in range(40)], 0.5),
}
"""Functions that visit all samples of each window, with a parameter that changes from step to step."""


@pytest.mark.parametrize("function", WALKING)
def test_cuts_between_steps_change_nothing(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    series = [({"i": str(i)}, [(960_000 + 500 * k, float(rng.normal())) for k in range(160) if rng.random() < 0.8]) for i in range(5)]
    call = Call(40)
    ranges = call.ranges(*series, ({"i": "none"}, []), range_ms=9000)
    first = function == "quantile_over_time"
    args = (*WALKING[function], ranges) if first else (ranges, *WALKING[function])
    whole = call.rows(function, *args)
    monkeypatch.setattr(over_time, "LARGEST_WALK", 500)
    assert call.rows(function, *args) == whole


def test_a_query_that_walks_long_windows_ends_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    call, steps = Call(40), []

    def counted(*args: object) -> None:
        out = args[6]
        assert isinstance(out, np.ndarray)
        steps.append(out.shape[1])
        call.deadline.cancel()

    monkeypatch.setattr(over_time, "rollup", counted)
    monkeypatch.setattr(over_time, "LARGEST_WALK", 50)
    with pytest.raises(QueryCancelled):
        call.run("sum_over_time", call.ranges(({}, RAMP), range_ms=9000))
    assert steps == [13]


def test_windows_are_told_by_visits_of_their_samples() -> None:
    for steps, range_ms, visits in ((1, 9000, 1), (40, 9000, 10), (5, 9000, 5), (40, 500, 1)):
        call = Call(steps)
        assert over_time.windows_of_a_sample(call.ranges(({}, RAMP), range_ms=range_ms)) == visits
    still = replace(call.ranges(({}, RAMP), range_ms=9000), ends_ms=np.full(40, 1_000_000))
    assert over_time.windows_of_a_sample(still) == 40
