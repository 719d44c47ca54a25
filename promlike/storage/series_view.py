"""Reading the series index: matchers to sorted refs, refs to label frames. From any thread."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promlike.model.blocks import Bool, Int32, Int64
from promlike.model.frame import Symbols, SymbolScope
from promlike.model.labels import METRIC_NAME, Labels
from promlike.model.matchers import Matcher, MatchOp
from promlike.storage import index_kernels as kernels
from promlike.storage.label_order import label_order
from promlike.storage.postings import Postings, PostingsBook
from promlike.storage.regex_shape import regex_shape
from promlike.storage.selected_series import MemoKey, SelectedSeries, SelectionMemo
from promlike.storage.series_labels import SeriesLabels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairCounts:
    """Distinct labels of some series: K pairs of a name (`rows int64[K]` into `names`) and a value (`symbols int32[K]` of `scope`), and how
    many series have each (`counts int64[K]`).
    """

    names: tuple[str, ...]
    rows: Int64
    symbols: Int32
    counts: Int64
    scope: SymbolScope


class SeriesView:
    """One generation of the index, with what is remembered of it. `names` are the label names; `alive` says which refs count."""

    def __init__(self, labels: SeriesLabels, names: Symbols, alive: Bool) -> None:
        self.labels = labels
        self.alive = alive
        self.removals = 0
        """How often series left, or came back."""
        self._names = names
        self._postings = PostingsBook(self.column, labels.first)
        self._memo = SelectionMemo()

    @property
    def postings_bytes(self) -> int:
        """What the postings that were asked for take."""
        return self._postings.size

    def labels_of(self, ref: int) -> Labels:
        """The labels of a series, living or not."""
        pairs = np.frombuffer(self.labels.key_of(ref), np.int32).tolist()
        text = self.labels.symbols.text
        return tuple((self._names.text(name), text(value)) for name, value in zip(pairs[::2], pairs[1::2], strict=True))

    def memoised(self, matchers: MemoKey) -> SelectedSeries | None:
        """The remembered answer of `select`, when nothing happened since."""
        entry = self._memo.get(matchers)
        return entry if entry is not None and entry.upto == self.labels.added and entry.removals == self.removals else None

    def select(self, matchers: MemoKey) -> SelectedSeries:
        """All living series that satisfy every matcher, sorted by labels."""
        upto, removals = self.labels.added, self.removals
        entry = self._memo.get(matchers)
        if entry is not None and entry.removals == removals:
            if entry.upto == upto:
                return entry
            # Series were created since: only those need to be looked at.
            fresh = self._filter(self.labels.order[entry.upto : upto], matchers)
            if not len(fresh):
                entry.upto = upto
                return entry
            refs = np.concatenate([entry.refs, fresh])
        else:
            refs, upto = self._match(matchers, upto)
        found = self.ordered(refs, upto, removals)
        self._memo.put(matchers, found)
        return found

    def ordered(self, refs: Int32, upto: int | None = None, removals: int | None = None) -> SelectedSeries:
        """The series of `refs int32[S]` sorted by their labels, with their frame."""
        names, codes = self._columns(refs)
        order = label_order(codes, self.labels.symbols)
        return SelectedSeries(
            refs=np.ascontiguousarray(refs[order]),
            names=names,
            codes=np.ascontiguousarray(codes[order]),
            symbols=self.labels.symbols,
            upto=self.labels.added if upto is None else upto,
            removals=self.removals if removals is None else removals,
        )

    def match(self, matchers: Sequence[Matcher]) -> Int32:
        """Ascending refs (int32[S]) of the living series that satisfy every matcher."""
        return self._match(matchers, self.labels.added)[0]

    def _match(self, matchers: Sequence[Matcher], upto: int) -> tuple[Int32, int]:
        """Of the first series that came, `upto` of them at least; and how many of them those are."""
        best = min((m for m in matchers if not m.matches_empty), key=_cost, default=None)
        if best is None:
            return self._filter(self.labels.first(upto), matchers), upto
        rest = tuple(m for m in matchers if m is not best)
        postings = self._postings.of(best.name, upto)
        indexed = self._filter(self._posted(best, postings), rest)
        fresh = self._filter(self.labels.order[postings.upto : upto], matchers)
        # Another thread may have made postings of more meanwhile.
        return np.sort(np.concatenate([indexed, fresh])) if len(fresh) else indexed, max(upto, postings.upto)

    def label_pairs(self, refs: Int32) -> PairCounts:
        """How many of the series `refs int32[S]` have each label."""
        names, symbols, counts = kernels.count_pairs(self.labels.arena, self.labels.places, refs)
        known, rows = np.unique(names, return_inverse=True)
        scope = SymbolScope(self.labels.symbols)
        return PairCounts(names=tuple(map(self._names.text, known.tolist())), rows=rows, symbols=symbols, counts=counts, scope=scope)

    def names_of(self, refs: Int32) -> list[str]:
        """The label names that the series of `refs int32[S]` use, sorted."""
        return sorted(map(self._names.text, np.flatnonzero(self._used_names(refs)).tolist()))

    def values_of(self, name: str, refs: Int32) -> list[str]:
        """The values that the series of `refs int32[S]` give a label, sorted."""
        return sorted(self.labels.symbols.text(symbol) for symbol in np.unique(self.column(name, refs)).tolist() if symbol)

    def metric_spans(self, refs: Int32, first_ms: Int64, last_ms: Int64) -> list[tuple[str, int, int]]:
        """The metric names of the series of `refs int32[S]`, each once, with the least and the greatest of their times, int64[S]."""
        symbols, rows = np.unique(self.column(METRIC_NAME, refs), return_inverse=True)
        first, last = np.full(len(symbols), 2**62, np.int64), np.full(len(symbols), -(2**62), np.int64)
        np.minimum.at(first, rows, first_ms)
        np.maximum.at(last, rows, last_ms)
        return list(zip(map(self.labels.symbols.text, symbols.tolist()), first.tolist(), last.tolist(), strict=True))

    def metrics_of(self, refs: Int32) -> list[str]:
        """The metric names of the series of `refs int32[S]`, each once; "" for series without one."""
        return [self.labels.symbols.text(symbol) for symbol in np.unique(self.column(METRIC_NAME, refs)).tolist()]

    def values_where(self, name: str, wanted: Bool) -> list[str]:
        """The values that the series with `wanted bool[refs]` give a label, sorted."""
        return sorted(
            map(self.labels.symbols.text, self._postings.symbols_where(name, wanted, self.labels.order[: self.labels.added]).tolist())
        )

    def column(self, name: str, refs: Int32) -> Int32:
        """Value symbols of one label, int32[S]; 0 where it is absent."""
        found = self._names.find(name)
        return np.zeros(len(refs), np.int32) if found is None else self.labels.column(found, refs)

    def satisfying(self, refs: Int32, matchers: Sequence[Matcher]) -> Int32:
        """Those of these refs (int32[S]), living or not, that satisfy every matcher, in their order."""
        for matcher in sorted(matchers, key=_cost):
            if not len(refs):
                break
            codes = self.column(matcher.name, refs)
            if matcher.op in (MatchOp.EQUAL, MatchOp.NOT_EQUAL):
                symbol = self.labels.symbols.find(matcher.value)
                equal = codes == (-1 if symbol is None else symbol)
                refs = refs[equal if matcher.op is MatchOp.EQUAL else ~equal]
            else:
                values, rows = np.unique(codes, return_inverse=True)
                refs = refs[self._satisfies(matcher, values)[rows]]
        return np.ascontiguousarray(refs)

    def _filter(self, refs: Int32, matchers: Sequence[Matcher]) -> Int32:
        """The living of these refs that satisfy every matcher."""
        return self.satisfying(refs[self.alive[refs]], matchers)

    def _used_names(self, refs: Int32) -> NDArray[np.uint8]:
        used = np.zeros(len(self._names), np.uint8)
        kernels.mark_names(self.labels.arena, self.labels.places, refs, used)
        return used

    def _columns(self, refs: Int32) -> tuple[tuple[str, ...], NDArray[np.int32]]:
        used = self._used_names(refs)
        ids = sorted(np.flatnonzero(used).tolist(), key=self._names.text)
        columns = np.zeros(len(used), np.int32)
        columns[ids] = np.arange(len(ids))
        codes = kernels.label_codes(self.labels.arena, self.labels.places, refs, columns, len(ids))
        return tuple(map(self._names.text, ids)), codes

    def _posted(self, matcher: Matcher, postings: Postings) -> Int32:
        """Ascending refs among the postings that satisfy a matcher which does not accept an absent label."""
        if matcher.op is MatchOp.EQUAL:
            symbol = self.labels.symbols.find(matcher.value)
            return postings.refs_of(symbol) if symbol is not None else np.empty(0, np.int32)
        chosen = np.flatnonzero(self._satisfies(matcher, postings.symbols))
        if len(chosen) == len(postings.symbols):
            return np.sort(postings.refs)
        parts = [postings.refs[postings.starts[u] : postings.starts[u + 1]] for u in chosen.tolist()]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int32)

    def _satisfies(self, matcher: Matcher, symbols: Int32) -> Bool:
        """Which of these distinct value symbols satisfy a matcher."""
        known = self.labels.symbols
        shape = regex_shape(matcher.value) if matcher.op in (MatchOp.REGEX, MatchOp.NOT_REGEX) else None
        if shape is not None and not shape.prefixes and not shape.longer:
            wanted = [symbol for symbol in map(known.find, shape.literals) if symbol is not None]
            return np.isin(symbols, np.array(wanted, np.int32), invert=matcher.op is MatchOp.NOT_REGEX)
        if shape is not None:
            positive = matcher.op is MatchOp.REGEX
            return np.fromiter((shape.matches(known.text(symbol)) is positive for symbol in symbols.tolist()), np.bool_, len(symbols))
        return np.fromiter((matcher.matches(known.text(symbol)) for symbol in symbols.tolist()), np.bool_, len(symbols))


def _cost(matcher: Matcher) -> int:
    """Rank matchers by how cheaply and how far they narrow a selection."""
    if matcher.op is MatchOp.EQUAL:
        return 0 if matcher.name == METRIC_NAME or not matcher.value else -1
    return 2 + (matcher.op is not MatchOp.REGEX)
