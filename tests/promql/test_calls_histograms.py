import math

import pytest

from promlike.model.labels import labels
from promlike.promql.calls.number_text import format_g, format_open_metrics, parse_float
from promlike.promql.options import Features
from promlike.promql.vector import VectorValue
from tests.promql.call_data import Call

NOT_MONOTONIC = (
    "PromQL info: input to histogram_quantile needed to be fixed for monotonicity "
    "(see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)"
)


def buckets(call: Call, counts: dict[str, float | None], **pairs: str) -> VectorValue:
    return call.vector(*(({"__name__": "x_bucket", "le": le, **pairs}, [count] * call.grid.count) for le, count in counts.items()))


COUNTS: dict[str, float | None] = {"+Inf": 12.0, "0.1": 5.0, "0.2": 7.0, "1e0": 11.0}


def test_quantiles_of_each_step() -> None:
    call = Call(4)
    rows = call.rows("histogram_quantile", [0.5, 0.0, 1.0, 2.0], buckets(call, COUNTS, job="a"))
    assert rows == [(labels({"__name__": "x_bucket", "job": "a"}), [pytest.approx(0.15), 0.0, 1.0, math.inf])]
    assert call.annotations.warnings == ("PromQL warning: quantile value should be between 0 and 1, got 2 (1:1)",)


def test_histograms_are_told_apart_by_their_other_labels() -> None:
    call = Call()
    vector = call.vector(
        ({"le": "1", "job": "a"}, [1.0]), ({"le": "1", "job": "b"}, [1.0]), ({"le": "+Inf", "job": "b"}, [3.0]), ({"le": "Inf"}, [None])
    )
    (a, (value,)), (b, (other,)) = call.rows("histogram_quantile", 0.2, vector)
    assert (dict(a), dict(b)) == ({"job": "a"}, {"job": "b"})
    assert value is not None
    assert math.isnan(value)
    assert other == pytest.approx(0.6)


@pytest.mark.parametrize(("features", "of_metric"), [(Features.all(), ' for metric name "x_bucket"'), (Features(), "")])
def test_falling_counts_are_told_of(features: Features, of_metric: str) -> None:
    call = Call(features=features)
    assert call.values("histogram_quantile", 0.5, buckets(call, {"1": 5.0, "2": 3.0, "+Inf": 10.0})) == [[1.0]]
    details = "from buckets 2 to 2, with a max diff of 2, over 1 samples from 1970-01-01T00:16:40Z to 1970-01-01T00:16:40Z"
    assert call.annotations.infos == (f"{NOT_MONOTONIC}{of_metric}, {details} (1:11)",)


def test_what_falls_is_summed_up_for_all_histograms_and_steps_of_a_metric() -> None:
    call = Call(3)
    rows = ({"le": "1", "n": n} for n in "ab")
    falling = [({"__name__": "x", **row}, [5000.0, 5000.0, 0.0]) for row in rows]
    lower = [({"__name__": "x", "le": "2", "n": n}, [3000.0, 4000.0, 0.0]) for n in "ab"]
    last = [({"__name__": "x", "le": "+Inf", "n": n}, [4500.0, 9000.0, 1.0]) for n in "ab"]
    call.run("histogram_quantile", 0.5, call.vector(*falling, *lower, *last))
    details = "from buckets 2 to +Inf, with a max diff of 2e+03, over 4 samples from 1970-01-01T00:16:40Z to 1970-01-01T00:16:41Z"
    assert call.annotations.infos == (f'{NOT_MONOTONIC} for metric name "x", {details} (1:11)',)


def test_falling_by_rounding_is_not_told_of() -> None:
    call = Call()
    call.run("histogram_quantile", 0.5, buckets(call, {"1": 5.0, "2": 5.0 - 1e-14, "+Inf": 10.0}))
    assert not call.annotations.infos


@pytest.mark.parametrize(
    ("function", "args", "position"),
    [
        ("histogram_quantile", (0.8, None), "1:11"),
        ("histogram_quantiles", (None, "q", 0.1), "1:1"),
        ("histogram_fraction", (-math.inf, 1.0, None), "1:21"),
    ],
)
def test_bad_bounds_are_warned_of(function: str, args: tuple[float | str | None, ...], position: str) -> None:
    call = Call()
    vector = call.vector(({"__name__": "series", "le": "Hello"}, [2.0]), ({"job": "a"}, [2.0]), ({"le": "unseen"}, [None]))
    assert call.rows(function, *(vector if arg is None else arg for arg in args)) == []
    text = 'PromQL warning: bucket label "le" is missing or has a malformed value of'
    assert call.annotations.warnings == (f'{text} "Hello" for metric name "series" ({position})', f'{text} "" ({position})')


def test_several_quantiles_at_once() -> None:
    call = Call(2)
    rows = call.rows("histogram_quantiles", buckets(call, COUNTS), "quantile", [0.5, 1.0], 1.0)
    assert [(dict(pairs)["quantile"], row) for pairs, row in rows] == [
        ("0.5", [pytest.approx(0.15), None]),
        ("1.0", [None, 1.0]),
        ("1.0", [1.0, 1.0]),
    ]


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        (0.0, 0.2, 2 / 12),
        (-math.inf, 0.2, 7 / 12),
        (-math.inf, 0.05, 5 / 12),
        (-math.inf, math.inf, 1.0),
        (0.1, 0.1, 0.0),
        (0.15, 0.6, 3 / 12),
        (5.0, 6.0, 0.0),
        (math.nan, 1.0, math.nan),
    ],
)
def test_fractions(lower: float, upper: float, expected: float) -> None:
    call = Call()
    assert call.values("histogram_fraction", lower, upper, buckets(call, COUNTS)) == [[pytest.approx(expected, nan_ok=True)]]


@pytest.mark.parametrize("part", ["avg", "count", "sum", "stddev", "stdvar"])
def test_floats_are_no_native_histograms(part: str) -> None:
    call = Call(2)
    assert call.rows(f"histogram_{part}", buckets(call, COUNTS)) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("1e3", 1000.0),
        ("+Inf", math.inf),
        ("-infinity", -math.inf),
        ("5.", 5.0),
        (".5", 0.5),
        ("0x1p-2", 0.25),
        ("", None),
        (" 1", None),
        ("1_0", None),
        ("1e999", None),
        ("Hello", None),
        ("0x1", None),
        ("１", None),
    ],
)
def test_bounds_are_read_as_go_reads_numbers(text: str, value: float | None) -> None:
    assert parse_float(text) == value


@pytest.mark.parametrize(
    ("value", "general", "open_metrics"),
    [
        (1.0, "1", "1.0"),
        (0.0, "0", "0.0"),
        (-0.5, "-0.5", "-0.5"),
        (0.99, "0.99", "0.99"),
        (1e-5, "1e-05", "1e-05"),
        (0.00012, "0.00012", "0.00012"),
        (123456.0, "123456", "123456.0"),
        (1234567.0, "1.234567e+06", "1.234567e+06"),
        (1e100, "1e+100", "1e+100"),
        (12.5, "12.5", "12.5"),
        (-math.inf, "-Inf", "-Inf"),
        (math.nan, "NaN", "NaN"),
    ],
)
def test_numbers_are_written_as_go_writes_them(value: float, general: str, open_metrics: str) -> None:
    assert (format_g(value), format_open_metrics(value)) == (general, open_metrics)
