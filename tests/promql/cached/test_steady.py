"""Which expressions may be put together from parts, and how far their samples lie from a step."""

import pytest

from promlike.promql import steady
from promlike.promql.cached.reach import Reach, reaches
from promlike.promql.context import QueryWindow
from promlike.promql.functions import FUNCTIONS
from promlike.promql.options import Features
from promlike.promql.parser import parse
from promlike.promql.steady import is_ordered, is_steady
from promlike.promql.timing import Timing

FEATURES = Features(promql_experimental_functions=True, promql_extended_range_selectors=True, promql_binop_fill_modifiers=True)

STEADY = (
    "1",
    "time()",
    "up",
    "up offset 5m",
    "up offset -5m",
    "up @ 100",
    "rate(m[step() * 2] offset (step() * 2))",
    '{__name__=~"a|b"}',
    "rate(m[5m])",
    "rate({__name__='m'}[5m])",
    'last_over_time({__name__=~"a|b"}[5m])',
    "sum by (job) (rate(m[5m]))",
    "sum(sum(m))",
    "sum(m) or vector(1)",
    "avg(max_over_time(m[1h:1m]))",
    "max_over_time(sum by (job) (rate(m[5m]))[30m:1m])",
    "histogram_quantile(0.9, sum by (le) (rate(m_bucket[5m])))",
    "topk(3, sum by (job) (m))",
    "count(sum by (job) (m))",
    "count_values('v', sum by (job) (m))",
    "sum(a / b)",
    "sum(a * on (job) group_left b)",
    "sum by (x) (a) / on (x) sum by (x) (b)",
    "a or b",
    "sum(a unless b)",
    "sum(a > 5)",
    'a > bool 5 or abs({__name__=~"a|b"})',
    "absent(m)",
    "absent_over_time(m[5m])",
    "label_replace(m, 'a', '$1', 'b', '(.*)')",
    "hour(m) + hour()",
    "clamp_max(m, scalar(n))",
    "predict_linear(m[1h], 3600)",
    "-m",
    "timestamp(m)",
    "sum(sum by (job) (m))",
    "sum(topk(3, m))",
    "sum(a or b)",
    "avg(label_replace(m, 'a', '$1', 'b', '(.*)'))",
    "stddev(a + on (job) b)",
    "sum(a * on (job) group_left (version) b)",
    'sum(abs({__name__=~"a|b"}))',
    "sum(histogram_quantile(0.9, m_bucket))",
)

UNSTEADY = (
    "m @ start()",
    "m @ end()",
    "rate(m[5m] @ end())",
    "rate(m[range()])",
    "rate(m[5m:max_of(range(), 1m)])",
    "m offset (range() + 1m)",
    "start()",
    "m * end()",
    "range()",
    "sort(m)",
    "sort_desc(m)",
    "sort_by_label(m, 'a')",
    "info(m)",
    "limitk(2, m)",
    "limit_ratio(0.5, m)",
    "increase(m[5m] anchored)",
    "increase(m[5m] smoothed)",
    'rate({__name__=~"a|b"}[5m])',
    'rate({job="a"}[5m])',
    "max_over_time((a or b)[10m:1m])",
    "a + fill(0) b",
)


@pytest.mark.parametrize("query", STEADY)
def test_steady(query: str) -> None:
    assert is_steady(parse(query, FEATURES), FEATURES)


@pytest.mark.parametrize(
    "query", ["m", "m > 5", "rate(m[5m])", "(sum(m))", "sum(a unless b)", "a / b", "-m", "avg(max_over_time(m[1h:1m]))"]
)
def test_ordered(query: str) -> None:
    assert is_ordered(parse(query, FEATURES))


@pytest.mark.parametrize(
    "query",
    [
        "sum by (job) (m)",
        "sum without (job) (m)",
        "a or b",
        "topk(3, m)",
        "count_values('v', m)",
        "label_replace(m, 'a', '$1', 'b', '(.*)')",
        "a + on (job) b",
        "a * on (job) group_left (version) b",
        'abs({__name__=~"a|b"})',
        "histogram_quantile(0.9, m_bucket)",
        "sort(m)",
    ],
)
def test_not_known_to_be_ordered(query: str) -> None:
    assert not is_ordered(parse(query, FEATURES))


@pytest.mark.parametrize("query", UNSTEADY)
def test_unsteady(query: str) -> None:
    assert not is_steady(parse(query, FEATURES), FEATURES)


@pytest.mark.parametrize("feature", ["promql_delayed_name_removal", "use_start_timestamps", "type_and_unit_labels"])
def test_features_that_were_not_thought_through(feature: str) -> None:
    features = Features(**{feature: True})
    assert not is_steady(parse("up", features), features)


def test_every_function_was_thought_of() -> None:
    """A new function is not cached until it is in one of the lists of `steady`, or here."""
    never = set("start end range info start_timestamp sort sort_desc sort_by_label sort_by_label_desc".split())
    native = {"histogram_avg", "histogram_count", "histogram_sum", "histogram_stddev", "histogram_stdvar"}
    listed = steady._SINGLE | steady._RELABEL | steady._HISTOGRAMS | steady._BY_SERIES
    assert listed | never | native == set(FUNCTIONS)
    assert not listed & (never | native)


def reach(metric: str | None, back_ms: int, ahead_ms: int = 0, *, pinned: bool = False) -> Reach:
    return Reach(metric=metric, back_ms=back_ms, ahead_ms=ahead_ms, pinned=pinned)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("1", ()),
        ("m", (reach("m", 300_000),)),
        ("{a='b'}", (reach(None, 300_000),)),
        ("{__name__='m'}", (reach("m", 300_000),)),
        ("{__name__=~'m'}", (reach(None, 300_000),)),
        ("rate(m[1m])", (reach("m", 60_000),)),
        ("rate(m[1m] offset 1h)", (reach("m", 3_660_000, -3_600_000),)),
        ("m offset -1m", (reach("m", 240_000, 60_000),)),
        ("m @ 1000", (reach("m", -700_000, 1_000_000, pinned=True),)),
        ("m @ 1000 offset 100", (reach("m", -600_000, 900_000, pinned=True),)),
        ("max_over_time(m[10m:1m])", (reach("m", 900_000),)),
        ("max_over_time(m[10m:1m] offset 1m)", (reach("m", 960_000, -60_000),)),
        ("max_over_time((m offset -1m)[10m:1m] @ 1000)", (reach("m", -160_000, 1_060_000, pinned=True),)),
        ("max_over_time((m @ 1000)[10m:1m] offset 1h)", (reach("m", -700_000, 1_000_000, pinned=True),)),
        ("a + rate(b[1m])", (reach("a", 300_000), reach("b", 60_000))),
        ("topk(scalar(a), b)", (reach("a", 300_000), reach("b", 300_000))),
        ("rate(m[step()])", (reach("m", 15_000),)),
    ],
)
def test_reach(query: str, expected: tuple[Reach, ...]) -> None:
    timing = Timing(window=QueryWindow(start_ms=0, end_ms=60_000, step_ms=15_000), lookback_ms=300_000, subquery_step_ms=60_000)
    assert reaches(parse(query, FEATURES), timing) == frozenset(expected)
