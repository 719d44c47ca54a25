"""Which series have which value of a label, for a label at a time."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from promlike.model.blocks import Bool, Int32, Int64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Postings:
    """One label name: its values' symbols, ascending int32[U], and the refs that have value u, `refs[starts[u]:starts[u+1]]`, ascending."""

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
    """The postings of every label that was asked for. `column(name, refs int32[S])` gives value symbols int32[S], 0 where there is none.

    From any thread.
    """

    def __init__(self, column: Callable[[str, Int32], Int32]) -> None:
        self._column = column
        self._known: dict[str, Postings] = {}

    def of(self, name: str, count: int) -> Postings:
        """The postings of a label over the refs below `count`, complete but for a tail of the newest series."""
        known = self._known.get(name)
        if known is None or count - known.upto > max(4096, known.upto // 8):
            known = self._build(name, count)
            if len(known.symbols):  # of names that nobody has there may be any number
                self._known[name] = known
        return known

    def symbols_where(self, name: str, wanted: Bool) -> Int32:
        """The different values that the series with `wanted bool[count]` give a label; reads the postings instead of all labels."""
        postings = self.of(name, len(wanted))
        symbols = postings.symbols
        if postings.upto > len(wanted):  # built meanwhile for series that are newer than the question
            wanted = np.pad(wanted, (0, postings.upto - len(wanted)))
        if len(symbols):
            symbols = symbols[np.logical_or.reduceat(wanted[postings.refs], postings.starts[:-1])]
        if postings.upto < len(wanted):
            tail = np.arange(postings.upto, len(wanted), dtype=np.int32)
            fresh = self._column(name, tail[wanted[postings.upto :]])
            symbols = np.unique(np.concatenate([symbols, fresh[fresh != 0]]))
        return symbols

    def _build(self, name: str, count: int) -> Postings:
        codes = self._column(name, np.arange(count, dtype=np.int32))
        refs = np.flatnonzero(codes).astype(np.int32)
        codes = codes[refs]
        order = np.argsort(codes, kind="stable")
        symbols, starts = np.unique(codes[order], return_index=True)
        return Postings(symbols=symbols, starts=np.append(starts, len(refs)).astype(np.int64), refs=refs[order], upto=count)
