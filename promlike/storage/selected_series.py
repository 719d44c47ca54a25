"""Series that matchers select, and the answers that are remembered."""

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from promlike.model.blocks import Int32
from promlike.model.frame import LabelFrame, Symbols, SymbolScope
from promlike.model.matchers import Matcher

MEMO_BYTES = 32 << 20
MemoKey = tuple[Matcher, ...]


@dataclass(slots=True, kw_only=True, eq=False)
class SelectedSeries:
    """Series that satisfy matchers, in the order of their labels: `refs int32[S]` and their frame's columns.

    Complete for the first `upto` series that came, with `removals` removals of series seen. `symbols` are those of the codes.
    """

    refs: Int32
    names: tuple[str, ...]
    codes: NDArray[np.int32]
    symbols: Symbols
    upto: int
    removals: int

    @property
    def bytes(self) -> int:
        return self.refs.nbytes + self.codes.nbytes + 256

    def frame(self, scope: SymbolScope) -> LabelFrame:
        return LabelFrame(names=self.names, codes=self.codes, symbols=scope)


class SelectionMemo:
    """The last answers, at most `MEMO_BYTES` of them and one at least. From any thread; whether one is still right, the asker finds out."""

    def __init__(self) -> None:
        self._found: OrderedDict[MemoKey, SelectedSeries] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, matchers: MemoKey) -> SelectedSeries | None:
        with self._lock:
            found = self._found.get(matchers)
            if found is not None:
                self._found.move_to_end(matchers)
            return found

    def put(self, matchers: MemoKey, found: SelectedSeries) -> None:
        with self._lock:
            old = self._found.pop(matchers, None)
            self._bytes += found.bytes - (old.bytes if old is not None else 0)
            self._found[matchers] = found
            while self._bytes > MEMO_BYTES and len(self._found) > 1:
                self._bytes -= self._found.popitem(last=False)[1].bytes
