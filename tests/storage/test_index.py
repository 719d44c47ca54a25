"""The series index against a walk over all labels."""

import functools
import random
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promlike.errors import BadRequest
from promlike.model.frame import Symbols, SymbolScope
from promlike.model.labels import Labels, labels
from promlike.model.matchers import Matcher, MatchOp, compile_regex
from promlike.storage.index import SeriesIndex
from promlike.storage.regex_shape import regex_shape


def new_index(series: list[Labels]) -> SeriesIndex:
    index = SeriesIndex(Symbols())
    for each in series:
        index.add(index.key(each))
    return index


def selected(index: SeriesIndex, matchers: tuple[Matcher, ...]) -> list[Labels]:
    found = index.select(matchers)
    return found.frame(SymbolScope(index.symbols)).all_labels()


def walk(series: list[Labels], matchers: tuple[Matcher, ...]) -> list[Labels]:
    chosen = [each for each in series if all(m.matches(dict(each).get(m.name, "")) for m in matchers)]
    return sorted(chosen, key=functools.cmp_to_key(compare))


def compare(a: Labels, b: Labels) -> int:
    """Prometheus's order: pair by pair, name before value; the beginning of another comes first."""
    for (a_name, a_value), (b_name, b_value) in zip(a, b, strict=False):
        if a_name != b_name:
            return -1 if a_name < b_name else 1
        if a_value != b_value:
            return -1 if a_value < b_value else 1
    return len(a) - len(b)


names = st.sampled_from(["__name__", "a", "b", "job", "ÿ", "z"])
values = st.sampled_from(["", "x", "y", "xy", "node_a", "node_b", "10", "9", "ü", "\n", "X"])
series_lists = st.lists(st.dictionaries(names, values, max_size=5).map(labels), unique=True, max_size=40)
patterns = st.sampled_from(
    [
        "x|y",
        "",
        "x?",
        ".*",
        ".+",
        "node_.*",
        "node_.+",
        "(node_(a|b)|x)",
        "[xy]+",
        "(?i)X",
        "x|",
        ".*_a",
        "10|9",
        "a.c",
        "(x|y)y?",
        "\\n",
        "x.*y",
    ]
)
matchers_of = st.one_of(
    st.builds(Matcher, names, st.sampled_from([MatchOp.EQUAL, MatchOp.NOT_EQUAL]), values),
    st.builds(Matcher, names, st.sampled_from([MatchOp.REGEX, MatchOp.NOT_REGEX]), patterns),
)


@settings(max_examples=300, deadline=None)
@given(series_lists, series_lists, st.lists(matchers_of, max_size=3).map(tuple), st.integers(0, 5))
def test_a_selection_is_what_a_walk_finds_in_its_order(
    first: list[Labels], second: list[Labels], matchers: tuple[Matcher, ...], removed: int
) -> None:
    index = new_index(first)
    assert selected(index, matchers) == walk(first, matchers)
    second = [each for each in second if each not in first]
    for each in second:
        index.add(index.key(each))
    everything = first + second
    assert selected(index, matchers) == walk(everything, matchers)
    assert index.memoised(matchers) is not None
    gone = everything[:removed]
    index.remove(np.arange(len(gone), dtype=np.int32))
    assert selected(index, matchers) == walk(everything[removed:], matchers)
    for ref in range(len(gone)):
        index.revive(ref)
    assert selected(index, matchers) == walk(everything, matchers)


@pytest.mark.parametrize(
    ("matcher", "found"),
    [
        (Matcher("job", MatchOp.EQUAL, ""), ["none"]),
        (Matcher("job", MatchOp.NOT_EQUAL, ""), ["api", "web"]),
        (Matcher("job", MatchOp.NOT_EQUAL, "api"), ["none", "web"]),
        (Matcher("job", MatchOp.REGEX, "api|"), ["api", "none"]),
        (Matcher("job", MatchOp.REGEX, ".*"), ["api", "none", "web"]),
        (Matcher("job", MatchOp.REGEX, ".+"), ["api", "web"]),
        (Matcher("job", MatchOp.NOT_REGEX, "a.*"), ["none", "web"]),
        (Matcher("job", MatchOp.NOT_REGEX, ".+"), ["none"]),
        (Matcher("missing", MatchOp.EQUAL, ""), ["api", "none", "web"]),
        (Matcher("missing", MatchOp.NOT_EQUAL, ""), []),
        (Matcher("job", MatchOp.REGEX, "AP.|pi"), []),
    ],
)
def test_an_absent_label_is_an_empty_one(matcher: Matcher, found: list[str]) -> None:
    index = new_index(
        [labels({"__name__": "up", "id": "none"}), *(labels({"__name__": "up", "id": job, "job": job}) for job in ("api", "web"))]
    )
    answer = selected(index, (Matcher("__name__", MatchOp.EQUAL, "up"), matcher))
    assert sorted(dict(each)["id"] for each in answer) == found


texts = st.text(alphabet="ab_.|\n", max_size=6)
literal = st.text(alphabet="ab_", max_size=3).map(lambda text: text.replace("_", "\\."))


@st.composite
def plain_patterns(draw: st.DrawFn) -> str:
    parts = draw(st.lists(literal, min_size=1, max_size=3))
    inner = "|".join(parts)
    return draw(st.sampled_from([inner, f"({inner})", f"(?:{inner})b", f"a({inner}).*", f"({inner}).+|b", "a|.*", ".+", f"{inner}.+"]))


@settings(max_examples=500)
@given(st.one_of(plain_patterns(), st.text(alphabet="ab.*+?()|\\[]{}^$1,", max_size=8)), st.lists(texts, max_size=8))
def test_the_shape_of_a_pattern_matches_as_the_pattern_does(pattern: str, candidates: list[str]) -> None:
    try:
        regex = compile_regex(pattern)
    except BadRequest:
        return
    shape = regex_shape(pattern)
    if shape is not None:
        for text in [*candidates, *shape.literals, *shape.prefixes, *shape.longer]:
            assert shape.matches(text) is (regex.fullmatch(text) is not None), text


@pytest.mark.parametrize("pattern", ["a|b|c", "node_.*", "(get|post)_.+", "a\\.b", "(a|b)(c|d)", "", ".*", "(?:x|y)"])
def test_patterns_of_dashboards_need_no_engine(pattern: str) -> None:
    assert regex_shape(pattern) is not None


def test_listing_values_reads_postings_and_the_tail() -> None:
    index = new_index([labels({"__name__": "m", "id": str(i)}) for i in range(6000)])
    assert len(index.values_where("id", np.ones(6000, np.bool_))) == 6000
    for i in range(6000, 6100):
        index.add(index.key(labels({"__name__": "m", "id": str(i)})))
    wanted = np.zeros(6100, np.bool_)
    wanted[[3, 5999, 6000, 6099]] = True
    assert index.values_where("id", wanted) == ["3", "5999", "6000", "6099"]
    assert index.values_where("nothing", wanted) == []
    assert index.values_where("__name__", wanted) == ["m"]


def test_the_most_numerous_metrics_are_counted() -> None:
    index = new_index([labels({"__name__": f"m{i % 3}", "id": str(i)}) for i in range(10)])
    symbol = index.symbols.find("m0")
    assert symbol is not None
    assert index.series_per_metric[symbol] == 4
    index.remove(np.array([0, 3], np.int32))
    assert index.series_per_metric[symbol] == 2
    assert index.living == 8


def test_a_taken_ref_is_refused() -> None:
    index = new_index([labels({"a": "1"})])
    with pytest.raises(ValueError, match="ref 0 is taken"):
        index.add(index.key(labels({"a": "2"})), 0)


def test_gaps_between_refs_are_no_series() -> None:
    index = SeriesIndex(Symbols())
    index.add(index.key(labels({"a": "1"})), 5)
    index.add(index.key(labels({"a": "2"})), 2)
    assert index.count == 6
    assert selected(index, ()) == [labels({"a": "1"}), labels({"a": "2"})]


def test_selections_in_threads_see_whole_series_while_others_are_created() -> None:
    index = SeriesIndex(Symbols())
    stop = threading.Event()
    wrong: list[Labels] = []
    sizes: list[int] = []

    def check() -> None:
        pick = random.Random(1)
        while not stop.is_set():
            matcher = pick.choice(
                [
                    Matcher("parity", MatchOp.EQUAL, "0"),
                    Matcher("id", MatchOp.REGEX, "[0-9]*[02468]"),
                    Matcher("parity", MatchOp.NOT_EQUAL, "1"),
                ]
            )
            found = selected(index, (matcher,))
            wrong.extend(each for each in found if int(dict(each)["id"]) % 2)
            sizes.append(len(found))

    threads = [threading.Thread(target=check) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(20_000):
        index.add(index.key(labels({"__name__": "m", "id": str(i), "parity": str(i % 2)})))
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(selected(index, (Matcher("parity", MatchOp.EQUAL, "0"),))) == 10_000
