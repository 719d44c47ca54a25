"""The index over generations: against a model, and with readers in other threads."""

import random
import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promlike.model.frame import Symbols, SymbolScope
from promlike.model.labels import Labels, labels
from promlike.model.matchers import Matcher, MatchOp
from promlike.storage.index import SeriesIndex
from promlike.storage.series_labels import NextGeneration

MATCHERS = (
    (),
    (Matcher("__name__", MatchOp.EQUAL, "m1"),),
    (Matcher("pod", MatchOp.REGEX, "pod-(1|3|5)"),),
    (Matcher("id", MatchOp.NOT_EQUAL, ""), Matcher("__name__", MatchOp.NOT_REGEX, "m0|m2")),
)


def series(number: int) -> Labels:
    return labels({"__name__": f"m{number % 4}", "id": str(number), "pod": f"pod-{number // 3}"})


@dataclass
class Model:
    """The obvious way: a dictionary of refs, and a set of those that live."""

    index: SeriesIndex = field(default_factory=lambda: SeriesIndex(Symbols()))
    refs: dict[Labels, int] = field(default_factory=dict)
    alive: set[Labels] = field(default_factory=set)
    going: tuple[NextGeneration, list[Labels]] | None = None

    def come(self, number: int) -> None:
        """As a write does."""
        one, index = series(number), self.index
        ref = index.find(index.key(one))
        assert ref == self.refs.get(one)
        if ref is None:
            ref = index.add(index.key(one))
            assert ref not in self.refs.values()
            self.refs[one] = ref
        elif one not in self.alive:
            index.revive(ref)
        self.alive.add(one)

    def go(self, number: int) -> None:
        """As retention does."""
        one = series(number)
        if one in self.alive:
            refs = np.array([self.refs[one]], np.int32)
            self.index.remove(refs)
            self.index.store_forgot(refs)
            self.alive.discard(one)

    def begin(self) -> None:
        dead = sorted(self.refs.keys() - self.alive)
        assert self.index.removed().tolist() == sorted(self.refs[one] for one in dead)
        self.going = self.index.without(self.index.removed()), dead

    def advance(self) -> None:
        if self.going is not None:
            self.going[0].advance(self.index.added)

    def end(self) -> None:
        if self.going is None:
            return
        following, dead = self.going
        self.going = None
        back = [one for one in dead if one in self.alive]
        free = [one for one in dead if one not in self.alive]
        self.index.replace(following, np.array([self.refs[one] for one in back], np.int32))
        self.index.release(np.array([self.refs.pop(one) for one in free], np.int32))

    def check(self) -> None:
        index = self.index
        assert index.living == len(self.alive)
        for matchers in MATCHERS:
            found = index.select(matchers)
            wanted = sorted(one for one in self.alive if all(m.matches(dict(one).get(m.name, "")) for m in matchers))
            assert found.frame(SymbolScope(found.symbols)).all_labels() == wanted
            assert found.refs.tolist() == [self.refs[one] for one in wanted]
            assert sorted(found.refs.tolist()) == index.match(matchers).tolist()
        assert index.values_where("id", index.alive[: index.count]) == sorted(dict(one)["id"] for one in self.alive)
        counts = {index.symbols.text(symbol): count for symbol, count in index.series_per_metric.items()}
        assert counts == {f"m{m}": n for m in range(4) if (n := sum(dict(one)["__name__"] == f"m{m}" for one in self.alive))}
        assert len(set(self.refs.values())) == len(self.refs)
        assert index.count <= len(self.refs) + index.free


NUMBERS = st.integers(0, 30)
STEPS: st.SearchStrategy[tuple[str, list[int]]] = st.one_of(
    st.tuples(st.sampled_from(["come", "go"]), st.lists(NUMBERS, min_size=1, max_size=10)),
    st.tuples(st.sampled_from(["begin", "advance", "end"]), st.just([])),
)


@given(st.lists(STEPS, max_size=25))
@settings(max_examples=150, deadline=None)
def test_any_order_of_coming_going_and_forgetting_is_that_of_the_model(steps: list[tuple[str, list[int]]]) -> None:
    model = Model()
    for name, numbers in steps:
        for number in numbers:
            getattr(model, name)(number)
        if not numbers:
            getattr(model, name)()
        model.check()
    model.end()
    model.check()


def test_symbols_that_no_series_has_are_gone_once_they_are_half() -> None:
    model = Model()
    for number in range(300):
        model.come(number)
    for number in range(100):
        model.go(number)
    symbols = model.index.symbols
    model.begin()
    model.end()
    assert model.index.symbols is symbols
    for number in range(100, 290):
        model.go(number)
    model.begin()
    model.end()
    assert len(model.index.symbols) < 30
    assert model.index.sizes["labels"] == 10 * 3 * 8
    model.check()
    for number in range(290):
        model.come(number)
    model.check()
    assert model.index.count == 300


def test_gaps_are_given_out_from_the_lowest_on() -> None:
    index = SeriesIndex(Symbols())
    index.add(index.key(series(1)), 3)
    index.add(index.key(series(2)), 6)
    index.release_gaps()
    assert [index.add(index.key(series(number))) for number in range(10, 17)] == [0, 1, 2, 4, 5, 7, 8]


def test_readers_in_threads_find_whole_series_through_all_generations() -> None:
    index = SeriesIndex(Symbols())
    stop, reads = threading.Event(), [0]
    wrong: list[object] = []
    stay = [labels({"__name__": "stay", "id": f"s{number}", "kind": "stay"}) for number in range(50)]
    for one in stay:
        index.add(index.key(one))

    def read() -> None:
        pick = random.Random(1)
        try:
            while not stop.is_set():
                kind = pick.choice(["stay", "come"])
                view = index.view
                found = view.select((Matcher("kind", MatchOp.EQUAL, kind),))
                texts = found.frame(SymbolScope(found.symbols)).all_labels()
                wrong.extend(one for one in texts if ("kind", kind) not in one or dict(one)["id"][0] != kind[0])
                if kind == "stay" and sorted(texts) != sorted(stay):
                    wrong.append(tuple(texts))
                index.values_where("id", index.alive[: index.count])
                index.match((Matcher("id", MatchOp.REGEX, ".*1"), Matcher("other", MatchOp.EQUAL, "")))
                reads[0] += 1
        except Exception as error:
            wrong.append(repr(error))
            raise

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for generation in range(60):
        names = {"__name__": f"come{generation}", "kind": "come", f"label{generation}": "x"}
        refs = [index.add(index.key(labels(names | {"id": f"c{generation}-{number}"}))) for number in range(200)]
        gone = np.array(refs, np.int32)
        index.remove(gone)
        index.store_forgot(gone)
        following = index.without(gone)
        following.advance(index.added)
        index.replace(following, gone[:0])
        index.release(gone)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert reads[0] > 5
    assert index.count <= 250


def test_a_series_with_too_many_labels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promlike.storage.series_labels.MOST_PAIRS", 2)
    index = SeriesIndex(Symbols())
    with pytest.raises(ValueError, match="3 labels"):
        index.add(index.key(series(1)))
