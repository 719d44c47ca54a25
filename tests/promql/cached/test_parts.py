"""The parts of the result cache: the log of changes, points, runs, the memory; the kernels against slow, obvious twins."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promlike.model.blocks import SampleBlock
from promlike.model.frame import LabelFrame, SymbolScope
from promlike.model.labels import Labels, labels
from promlike.promql.annotations import Note, joined_notes, rendered
from promlike.promql.ast import Span
from promlike.promql.cached.cache import LARGEST_SHARE, ResultCache
from promlike.promql.cached.changed import MOST_METRICS, MOST_RANGES, Change, ChangeLog
from promlike.promql.cached.points import Points, find_rows, joined
from promlike.promql.cached.reach import Reach
from promlike.promql.cached.run import Run, RunKey, touched_steps
from promlike.promql.kernels.aggregate import has_ties
from promlike.promql.result import Matrix

Plain = dict[Labels, dict[int, float]]


def matrix_of(series: Plain) -> Matrix:
    """In the order given."""
    return Matrix(
        labels=LabelFrame.from_labels(list(series), SymbolScope()),
        samples=SampleBlock(
            ts_ms=np.array([ts for points in series.values() for ts in points], np.int64),
            values=np.array([value for points in series.values() for value in points.values()], np.float64),
            offsets=np.cumsum([0, *map(len, series.values())], dtype=np.int64),
        ),
    )


def plain(matrix: Matrix) -> list[tuple[Labels, dict[int, float]]]:
    samples = matrix.samples
    samples.validate()
    pairs = list(zip(samples.ts_ms.tolist(), samples.values.tolist(), strict=True))
    offsets = samples.offsets.tolist()
    return [(series, dict(pairs[offsets[row] : offsets[row + 1]])) for row, series in enumerate(matrix.labels.all_labels())]


SERIES = st.dictionaries(
    st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"), max_size=3).map(labels),
    st.dictionaries(st.integers(0, 30), st.floats(-9, 9), min_size=1).map(lambda points: dict(sorted(points.items()))),
    max_size=6,
)


@given(SERIES, st.integers(-5, 35), st.integers(-5, 35))
def test_points_are_cut_to_a_range(series: Plain, first: int, last: int) -> None:
    points = Points.of(matrix_of(series)).cut(first, last)
    expected = [(name, {ts: value for ts, value in of.items() if first <= ts <= last}) for name, of in series.items()]
    assert plain(points.matrix(SymbolScope())) == [(name, of) for name, of in expected if of]


@given(SERIES, st.lists(st.integers(0, 30), max_size=3).map(sorted))
def test_points_that_were_cut_join_to_the_whole_sorted_by_labels(series: Plain, borders: list[int]) -> None:
    whole = Points.of(matrix_of(series))
    edges = [-1, *borders, 31]
    parts = [whole.cut(low + 1, high) for low, high in pairwise(edges)]
    found = plain(joined(parts, SymbolScope()))
    assert dict(found) == series
    if sum(part.samples.series > 0 for part in parts) > 1:
        assert [name for name, _ in found] == sorted(series, key=lambda name: [part for pair in name for part in pair])


@given(SERIES, st.integers(-5, 35), st.integers(-5, 35))
def test_find_rows(series: Plain, first: int, last: int) -> None:
    samples = matrix_of(series).samples
    low, high = np.empty(samples.series, np.int64), np.empty(samples.series, np.int64)
    find_rows(samples.ts_ms, samples.offsets, first, last, low, high)
    for row, points in enumerate(series.values()):
        inside = [ts for ts in points if first <= ts <= last]
        assert samples.ts_ms[low[row] : high[row]].tolist() == inside


def test_labels_made_by_a_query_outlive_it() -> None:
    scope = SymbolScope()
    made = LabelFrame.from_labels([labels({"a": "made"}), labels({"b": "up"})], scope)
    points = Points.of(Matrix(labels=made, samples=matrix_of({labels({"x": "1"}): {1: 1.0}, labels({"x": "2"}): {1: 2.0}}).samples))
    other = SymbolScope()
    other.intern("something else")
    assert points.matrix(other).labels.all_labels() == [labels({"a": "made"}), labels({"b": "up"})]


def slow_has_ties(values: np.ndarray, present: np.ndarray, chosen: np.ndarray, groups: np.ndarray, sign: float) -> bool:
    def key(value: float) -> float:
        return -np.inf if np.isnan(value) else value * sign

    for step in range(values.shape[1]):
        for group in set(groups.tolist()):
            rows = np.flatnonzero((groups == group) & present[:, step])
            inside = [key(values[row, step]) for row in rows if chosen[row, step]]
            outside = [key(values[row, step]) for row in rows if not chosen[row, step]]
            if inside and outside and max(outside) >= min(inside):
                return True
    return False


@pytest.mark.parametrize("seed", range(40))
def test_has_ties(seed: int) -> None:
    random = np.random.default_rng(seed)
    series, steps, most = int(random.integers(1, 7)), int(random.integers(1, 4)), int(random.integers(1, 12))
    values = random.integers(-most, most, (series, steps)).astype(np.float64)
    values[random.random(values.shape) < 0.1] = np.nan
    present, groups = random.random(values.shape) < 0.8, np.sort(random.integers(0, 2, series))
    sign = float(random.choice([-1.0, 1.0]))
    chosen = np.zeros_like(present)
    for step in range(steps):
        for group in (0, 1):
            rows = [row for row in np.flatnonzero(groups == group) if present[row, step]]
            rows.sort(key=lambda row: np.inf if np.isnan(values[row, step]) else -values[row, step] * sign)
            chosen[rows[:2], step] = True
    starts = np.array([0, *np.cumsum(np.bincount(groups, minlength=2))], np.int64)
    found = has_ties(values, present, chosen, np.arange(series), starts, sign)
    assert found == slow_has_ties(values, present, chosen, groups, sign)


def test_changes_are_told_by_metric_since_a_number() -> None:
    log = ChangeLog()
    log.changed(["a", "b"], 0, 10)
    log.changed(["a"], 100, 110)
    assert list(log.since(0, "a")) == [Change(number=1, start_ms=0, end_ms=10), Change(number=2, start_ms=100, end_ms=110)]
    assert list(log.since(1, "a")) == [Change(number=2, start_ms=100, end_ms=110)]
    assert list(log.since(1, "b")) == []
    assert list(log.since(0, "c")) == []
    assert [change.number for change in log.since(0, None)] == [1, 2]
    assert list(log.since(2, "a")) == []


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 20), st.sampled_from("ab")), max_size=300), st.integers(0, 300))
def test_whatever_is_forgotten_is_remembered_as_more(changes: list[tuple[int, int, str]], number: int) -> None:
    log = ChangeLog()
    for start, width, metric in changes:
        log.changed([metric], start, start + width)
    metrics: tuple[str | None, ...] = ("a", "b", None)
    for asked in metrics:
        found = list(log.since(min(number, len(changes)), asked))
        assert len(found) <= MOST_RANGES
        for start, width, changed in changes[number:]:
            if asked in (changed, None):
                assert any(change.start_ms <= start and start + width <= change.end_ms for change in found)


def test_a_small_change_does_not_make_a_large_one_before_it_new() -> None:
    log = ChangeLog()
    log.changed(["a"], 0, 1000)
    log.changed(["a"], 500, 510)
    assert list(log.since(1, "a")) == [Change(number=2, start_ms=500, end_ms=510)]
    log.changed(["a"], 400, 600)
    assert [change.start_ms for change in log.since(0, "a")] == [0, 400]


def test_when_anything_may_have_changed_everything_did() -> None:
    log = ChangeLog()
    log.changed(["a"], 0, 1000)
    log.all_changed()
    log.changed(["b"], 5, 6)
    for metric in ("a", "c"):
        assert [(change.number, change.start_ms < 0) for change in log.since(1, metric)] == [(2, True)]
    assert not list(log.since(2, "a"))


def test_too_many_metrics_are_not_told_apart() -> None:
    log = ChangeLog()
    log.changed([str(number) for number in range(MOST_METRICS)], 0, 10)
    log.changed(["one more"], 20, 30)
    assert [change.start_ms for change in log.since(1, "one more")] == [20]
    assert [change.start_ms for change in log.since(1, "7")] == [20]


def run_of(first: int, last: int, step: int = 10, notes: tuple[Note, ...] = ()) -> Run:
    times = range(first, last + 1, step)
    points = Points.of(matrix_of({labels({"a": "x"}): {ts: float(ts) for ts in times}}))
    return Run(
        first_ms=first,
        last_ms=last,
        step_ms=step,
        number=0,
        points=points,
        samples_per_step=tuple(times),
        span_ms=last - first,
        notes=notes,
    )


def note(message: str, steps: str, *, start: int = 0) -> Note:
    """`steps` as in "..x.", one character a step."""
    return Note(is_warning=False, message=message, span=Span(start, start + 1), steps=np.array([step == "x" for step in steps]))


def shown(notes: tuple[Note, ...] | None) -> list[tuple[str, str]] | None:
    """As `note` is given them."""
    return None if notes is None else [(each.message, "".join(".x"[step] for step in each.steps.tolist())) for each in notes]


def test_annotations_are_cut_with_their_run() -> None:
    run = run_of(20, 80, notes=(note("a", "x......"), note("b", "..xx..x")))
    found = run.cut(30, 60)
    assert found is not None
    assert shown(found.notes) == [("b", ".xx.")]


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        ([], [], []),
        ([("a", "x.")], [], [("a", "x...")]),
        ([("a", "x.")], [("a", ".x")], [("a", "x..x")]),
        ([("b", "x.")], [("a", ".x"), ("b", "x.")], [("a", "...x"), ("b", "x.x.")]),
        ([("a", "x.")], [("b", ".x")], None),
        ([("a", "x."), ("b", "xx")], [("b", ".x"), ("a", "x.")], None),
    ],
)
def test_annotations_of_parts_are_joined_where_their_order_is_known(
    first: list[tuple[str, str]], second: list[tuple[str, str]], whole: list[tuple[str, str]] | None
) -> None:
    parts = [(2, [note(*each) for each in part]) for part in (first, second)]
    assert shown(joined_notes(parts)) == whole


def test_joined_annotations_are_written_with_the_place_where_they_stand_last() -> None:
    notes = (note("a", "x", start=0), note("b", "x", start=2), note("a", "x", start=4))
    assert rendered("01\n345", notes) == ((), ("PromQL info: a (2:2)", "PromQL info: b (1:3)"))


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (0, 100, (20, 80)),
        (20, 80, (20, 80)),
        (21, 79, (30, 70)),
        (25, 85, (30, 80)),
        (50, 50, (50, 50)),
        (51, 59, None),
        (81, 100, None),
        (-50, 19, None),
        (-50, 20, (20, 20)),
        (60, 30, None),
    ],
)
def test_runs_are_cut_to_their_steps(first: int, last: int, expected: tuple[int, int] | None) -> None:
    found = run_of(20, 80).cut(first, last)
    assert (None if found is None else (found.first_ms, found.last_ms)) == expected
    if found is not None:
        assert found.points.samples.ts_ms.tolist() == list(found.samples_per_step) == list(range(found.first_ms, found.last_ms + 1, 10))


@pytest.mark.parametrize(
    ("touched", "expected"),
    [
        ([], (20, 80)),
        ([(0, 19)], (20, 80)),
        ([(81, 90)], (20, 80)),
        ([(21, 29)], (30, 80)),
        ([(0, 25)], (30, 80)),
        ([(70, 75)], (20, 60)),
        ([(40, 40)], (50, 80)),
        ([(60, 62), (30, 31)], (40, 50)),
        ([(-(2**62), 2**62)], None),
        ([(20, 80)], None),
    ],
)
def test_of_a_run_that_was_touched_the_longest_part_stays(touched: list[tuple[int, int]], expected: tuple[int, int] | None) -> None:
    found = run_of(20, 80).without(touched, 7)
    assert (None if found is None else (found.first_ms, found.last_ms)) == expected
    assert found is None or found.number == 7


@given(st.integers(0, 50), st.integers(-20, 20), st.integers(0, 100), st.integers(1, 20), st.booleans())
def test_touched_steps_are_those_that_look_at_a_changed_time(back: int, ahead: int, start: int, width: int, pinned: bool) -> None:
    if back + ahead <= 0:
        return
    reach = Reach(metric="m", back_ms=back, ahead_ms=ahead, pinned=pinned)
    found = touched_steps(reach, Change(number=1, start_ms=start, end_ms=start + width))
    changed = set(range(start + 1, start + width + 1))
    for step in range(-100, 300):
        origin = 0 if pinned else step
        looks_at = set(range(origin - back + 1, origin + ahead + 1))
        assert bool(looks_at & changed) == (found is not None and found[0] <= step <= found[1])


def key(text: str) -> RunKey:
    return RunKey(text=text, step_ms=10, phase_ms=0, lookback_ms=5, resolution_ms=None, with_stats=False)


def test_the_least_recently_used_leave_first() -> None:
    one = run_of(0, 1000)
    cache = ResultCache(int(one.bytes * 4.5))
    for name in "abcd":
        cache.put(key(name), one)
    assert cache.get(key("a")) is one
    cache.put(key("e"), one)
    assert [name for name in "abcde" if cache.get(key(name)) is not None] == ["a", "c", "d", "e"]
    assert cache.counters.evicted == 1
    assert cache.bytes <= cache.max_bytes
    for name in "acde":
        cache.drop(key(name))
    assert cache.bytes == len(cache) == 0


def test_what_is_too_large_is_not_kept_and_what_it_replaces_goes() -> None:
    small, large = run_of(0, 100), run_of(0, 100_000)
    cache = ResultCache(large.bytes * LARGEST_SHARE - 1)
    cache.put(key("a"), small)
    cache.put(key("a"), large)
    assert cache.get(key("a")) is None
    assert cache.bytes == 0
