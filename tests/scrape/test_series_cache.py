"""What a target remembers between scrapes, against a model of dictionaries."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promlike.model.labels import Labels
from promlike.scrape import series_cache
from promlike.scrape.exposition import read_exposition
from promlike.scrape.series_cache import SeriesCache
from promlike.scrape.series_text import parse_series
from tests.remote_write.sink import ListSink

TEXTS = ['a{x="1",y="2"}', 'a{y="2",x="1"}', "b", "c{}", "c", "dropped", 'dropped{z="1"}', "d", "e"]


@dataclass
class Model:
    """The obvious way: sets of labels."""

    before: set[Labels] = field(default_factory=set)
    untimed: set[Labels] = field(default_factory=set)

    def scrape(self, lines: list[tuple[str, int | None]]) -> tuple[list[tuple[Labels, int]], set[Labels], int]:
        """(samples by labels and time, series that went stale, series that were not there before)."""
        samples, now, untimed = [], set(), set()
        for text, time in lines:
            labels = of(text)
            if labels is None or (time is None and labels in now):
                continue
            now.add(labels)
            if time is None:
                untimed.add(labels)
            samples.append((labels, 1000 if time is None else time))
        gone, added = self.untimed - untimed, len(now - self.before)
        self.before, self.untimed = now, untimed
        return samples, gone, added


def of(text: str) -> Labels | None:
    labels = tuple(sorted(parse_series(text.encode(), openmetrics=False)))
    return None if ("__name__", "dropped") in labels else labels


LINES = st.lists(st.tuples(st.sampled_from(TEXTS), st.none() | st.integers(1, 5)), max_size=12)


@given(st.lists(st.none() | LINES, max_size=8), st.booleans())
@settings(max_examples=300, deadline=None)
def test_scrapes_in_a_row_behave_as_the_model(scrapes: list[list[tuple[str, int | None]] | None], trimmed: bool) -> None:
    cache, sink, model = SeriesCache(), ListSink(), Model()
    spare, series_cache.SPARE_ENTRIES = series_cache.SPARE_ENTRIES, -100 if trimmed else 1000
    try:
        for lines in scrapes:
            check_scrape(cache, sink, model, lines)
    finally:
        series_cache.SPARE_ENTRIES = spare


def check_scrape(cache: SeriesCache, sink: ListSink, model: Model, lines: list[tuple[str, int | None]] | None) -> None:
    names = list(sink.refs)
    if lines is None:
        gone, model.untimed = model.untimed, set()
        cache.fail()
        assert {names[ref] for ref in cache.gone().tolist()} == gone
        cache.written()
        return
    body = "".join(f"{text} 1{'' if time is None else f' {time}'}\n" for text, time in lines)
    found = read_exposition(bytearray(body.encode()), cache.table, openmetrics=False)
    unseen = [of(found.text(start, end).decode()) for start, end, _ in found.unseen.tolist()]
    assert not cache.enter(found, 0, unseen, sink)
    admitted = cache.admit(found, 1000, honor_times=True, track_times=False)
    samples, gone, added = model.scrape(lines)
    names = list(sink.refs)
    assert [(names[ref], time) for ref, time in zip(admitted.refs.tolist(), admitted.ts_ms.tolist(), strict=True)] == samples
    assert {names[ref] for ref in cache.gone().tolist()} == gone
    assert admitted.added == added
    assert {names[ref] for ref in cache.present().tolist()} == model.untimed | gone
    cache.written()
    cache.trim(found.samples)


def test_series_that_come_and_go_are_forgotten() -> None:
    cache, sink = SeriesCache(), ListSink()
    for scrape in range(60):
        body = "".join(f'm{{n="{scrape}",i="{i}"}} 1\n' for i in range(200))
        found = read_exposition(bytearray(body.encode()), cache.table, openmetrics=False)
        unseen = [of(found.text(start, end).decode()) for start, end, _ in found.unseen.tolist()]
        cache.enter(found, 0, unseen, sink)
        assert len(cache.admit(found, scrape, honor_times=True, track_times=False).refs) == 200
        assert len(cache.gone()) == (200 if scrape else 0)
        cache.written()
        cache.trim(found.samples)
    assert len(sink.refs) == 12_000
    assert cache.table.count < 2500
    assert cache._slots < 4000


@pytest.mark.parametrize("present", [True, False])
def test_inherited_series_are_marked_unless_they_show_up(present: bool) -> None:
    old, new, sink = SeriesCache(), SeriesCache(), ListSink()
    for cache, body in ((old, b"a 1\nb 1\n"), (new, b"a 1\nb 1\n" if present else b"b 1\n")):
        found = read_exposition(bytearray(body), cache.table, openmetrics=False)
        cache.enter(found, 0, [of(found.text(start, end).decode()) for start, end, _ in found.unseen.tolist()], sink)
        cache.admit(found, 1000, honor_times=True, track_times=False)
        if cache is old:
            new.inherit(old.present())
    names = list(sink.refs)
    assert [names[ref] for ref in new.gone().tolist()] == ([] if present else [(("__name__", "a"),)])


def test_inherited_series_are_held() -> None:
    cache = SeriesCache()
    cache.inherit(np.array([5, 9], np.int32))
    assert {5, 9} <= set(cache.held_refs().tolist())
