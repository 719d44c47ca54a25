"""Which series have which value of a label, for a label at a time."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from promlike.model.blocks import Bool, Int32, Int64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Postings:
    """One label name: its values' symbols, ascending int32[U], and the refs that have value u, `refs[starts[u]:starts[u+1]]`, ascending. Of
    the first `upto` series that came."""

    symbols: Int32
    starts: Int64
    refs: Int32
    upto: int

    def refs_of(self, symbol: int) -> Int32:
        """Refs (int32[S]) of the series with this value; empty when there are none."""
        at = int(np.searchsorted(self.symbols, symbol))
        if at == len(self.symbols) or self.symbols[at] != symbol:
            return np.empty(0, np.int32)
        return self.refs[self.starts[at] : self.starts[at + 1]]


class PostingsBook:
    """The postings of every label that was asked for. `column(name, refs int32[S])` gives value symbols int32[S], 0 where there is none;
    `first(count)` the refs of the first so many series that came, ascending.

    From any thread.
    """

    def __init__(self, column: Callable[[str, Int32], Int32], first: Callable[[int], Int32]) -> None:
        self._column = column
        self._first = first
        self._known: dict[str, Postings] = {}

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(known.symbols.nbytes + known.starts.nbytes + known.refs.nbytes for known in list(self._known.values()))

    def of(self, name: str, count: int) -> Postings:
        """The postings of a label over the first `count` series, complete but for a tail of the newest."""
        known = self._known.get(name)
        if known is None or count - known.upto > max(4096, known.upto // 8):
            known = self._build(name, count)
            if len(known.symbols):  # of names that nobody has there may be any number
                self._known[name] = known
        return known

    def symbols_where(self, name: str, wanted: Bool, newest: Int32) -> Int32:
        """The different values that the series with `wanted bool[refs]` give a label; reads the postings instead of all labels.

        `newest int32[N]`: the refs of all series in the order in which they came.
        """
        postings = self.of(name, len(newest))
        symbols = postings.symbols
        if len(symbols):
            symbols = symbols[np.logical_or.reduceat(_among(wanted, postings.refs), postings.starts[:-1])]
        tail = newest[postings.upto :]
        if len(tail):
            fresh = self._column(name, tail[_among(wanted, tail)])
            symbols = np.unique(np.concatenate([symbols, fresh[fresh != 0]]))
        return symbols

    def _build(self, name: str, count: int) -> Postings:
        refs = self._first(count)
        codes = self._column(name, refs)
        refs, codes = refs[codes != 0], codes[codes != 0]
        order = np.argsort(codes, kind="stable")
        symbols, starts = np.unique(codes[order], return_index=True)
        return Postings(symbols=symbols, starts=np.append(starts, len(refs)).astype(np.int64), refs=refs[order], upto=count)


def _among(wanted: Bool, refs: Int32) -> Bool:
    """Which of `refs int32[S]` are wanted; those that came after the question are not."""
    if len(refs) and refs.max() >= len(wanted):
        inside = refs < len(wanted)
        found = np.zeros(len(refs), np.bool_)
        found[inside] = wanted[refs[inside]]
        return found
    return wanted[refs]
