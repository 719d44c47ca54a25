"""Labels of many series as columns of symbol ids, so that grouping, matching and dropping labels are array operations.

Axis letters: S series, L label names, G groups.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np

from promlike.kernel import kernel
from promlike.model.blocks import Bool, Int32, Int64
from promlike.model.labels import Labels


class Symbols:
    """All label names and values of the process, each with a dense id; id 0 is "" and means that a label is absent.

    Append-only. Interning takes a lock, so any thread may intern; reading needs none.
    """

    __slots__ = ("_ids", "_lock", "_strings")

    def __init__(self) -> None:
        self._strings: list[str] = [""]
        self._ids: dict[str, int] = {"": 0}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._strings)

    def intern(self, text: str) -> int:
        found = self._ids.get(text)
        if found is not None:
            return found
        with self._lock:
            found = self._ids.get(text)
            if found is None:
                found = len(self._strings)
                self._strings.append(text)
                self._ids[text] = found
        return found

    def intern_all(self, texts: Sequence[str]) -> Int32:
        """int32[K] ids of K strings; faster than one by one."""
        ids, strings = self._ids, self._strings
        found = list(map(ids.get, texts))
        if None in found:
            with self._lock:
                for at, text in enumerate(texts):
                    if found[at] is None and (known := ids.get(text)) is not None:
                        found[at] = known
                    elif found[at] is None:
                        found[at] = len(strings)
                        strings.append(text)  # first, because readers take no lock
                        ids[text] = len(strings) - 1
        return np.array(found, np.int32)

    def find(self, text: str) -> int | None:
        return self._ids.get(text)

    def text(self, symbol: int) -> str:
        return self._strings[symbol]


class SymbolScope:
    """Symbols of one query: those of the process, and new strings (label_replace, count_values) under negative ids.

    A string keeps one id for the life of the scope, so ids can be compared instead of strings. Used by one query at a time.
    """

    __slots__ = ("_base", "_local_ids", "_local_strings")

    def __init__(self, base: Symbols | None = None) -> None:
        self._base = base if base is not None else Symbols()
        self._local_ids: dict[str, int] = {}
        self._local_strings: list[str] = [""]

    def intern(self, text: str) -> int:
        found = self._local_ids.get(text)
        if found is not None:
            return found
        found = self._base.find(text)
        if found is not None:
            return found
        found = -len(self._local_strings)
        self._local_strings.append(text)
        self._local_ids[text] = found
        return found

    def text(self, symbol: int) -> str:
        return self._base.text(symbol) if symbol >= 0 else self._local_strings[-symbol]

    def texts(self, symbols: Int32) -> list[str]:
        """The strings of int32[K]."""
        return [self.text(symbol) for symbol in symbols.tolist()]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelFrame:
    """Labels of S series: `names` sorted, `codes int32[S,L]` symbol ids of the values (0: absent), C-contiguous."""

    names: tuple[str, ...]
    codes: Int32
    symbols: SymbolScope

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def empty(cls, symbols: SymbolScope) -> "LabelFrame":
        return cls(names=(), codes=np.empty((0, 0), np.int32), symbols=symbols)

    @classmethod
    def from_labels(cls, series: Sequence[Labels], symbols: SymbolScope) -> "LabelFrame":
        """Build from tuples; walks every label, so only for small inputs, tests and new series."""
        names = tuple(sorted({name for pairs in series for name, _ in pairs}))
        position = {name: i for i, name in enumerate(names)}
        codes = np.zeros((len(series), len(names)), np.int32)
        for row, pairs in enumerate(series):
            for name, value in pairs:
                codes[row, position[name]] = symbols.intern(value)
        return cls(names=names, codes=codes, symbols=symbols)

    def column(self, name: str) -> Int32:
        """int32[S] symbol ids of one label; zeros when no series has it."""
        if name in self.names:
            return np.ascontiguousarray(self.codes[:, self.names.index(name)])
        return np.zeros(len(self.codes), np.int32)

    def take(self, rows: Int64 | Int32 | Bool) -> "LabelFrame":
        """The chosen series, by `int64[K]` or `int32[K]` index or `bool[S]` mask."""
        return LabelFrame(names=self.names, codes=np.ascontiguousarray(self.codes[rows]), symbols=self.symbols)

    def keep(self, names: Collection[str]) -> "LabelFrame":
        """Only these labels (`by`, `on`); names nobody has are left out."""
        return self._columns([i for i, name in enumerate(self.names) if name in names])

    def drop(self, names: Collection[str]) -> "LabelFrame":
        """Without these labels (`without`, `ignoring`)."""
        return self._columns([i for i, name in enumerate(self.names) if name not in names])

    def _columns(self, columns: list[int]) -> "LabelFrame":
        if len(columns) == len(self.names):
            return self
        return LabelFrame(
            names=tuple(self.names[i] for i in columns),
            codes=np.ascontiguousarray(self.codes[:, columns]),
            symbols=self.symbols,
        )

    def with_column(self, name: str, codes: Int32) -> "LabelFrame":
        """Set or replace one label; `codes int32[S]`, 0 removes it from that series."""
        rest = self.drop((name,))
        at = sum(other < name for other in rest.names)
        return LabelFrame(
            names=(*rest.names[:at], name, *rest.names[at:]),
            codes=np.ascontiguousarray(np.insert(rest.codes, at, codes, axis=1)),
            symbols=self.symbols,
        )

    def align(self, names: tuple[str, ...]) -> "LabelFrame":
        """The same labels laid out under these sorted names, a superset of what any series has; missing columns are zeros."""
        if names == self.names:
            return self
        codes = np.zeros((len(self.codes), len(names)), np.int32)
        for i, name in enumerate(names):
            if name in self.names:
                codes[:, i] = self.codes[:, self.names.index(name)]
        return LabelFrame(names=names, codes=codes, symbols=self.symbols)

    @classmethod
    def concat(cls, frames: Sequence["LabelFrame"]) -> "LabelFrame":
        """The series of all frames below one another. The frames share one scope."""
        names = tuple(sorted({name for frame in frames for name in frame.names}))
        codes = np.concatenate([frame.align(names).codes for frame in frames])
        return cls(names=names, codes=codes, symbols=frames[0].symbols)

    def groups(self) -> tuple[Int32, Int64]:
        """Group equal rows: group of each series int32[S], and the first series of each group int64[G], in order of first occurrence."""
        return group_rows(np.ascontiguousarray(self.codes))

    def labels_of(self, row: int) -> Labels:
        """The labels of one series as a tuple."""
        text = self.symbols.text
        return tuple((name, text(code)) for name, code in zip(self.names, self.codes[row].tolist(), strict=True) if code)

    def all_labels(self) -> list[Labels]:
        """Every series as a tuple; walks all labels, so only for output and messages."""
        text = self.symbols.text
        names = self.names
        return [tuple((name, text(code)) for name, code in zip(names, row, strict=True) if code) for row in self.codes.tolist()]


def match_rows(left: LabelFrame, right: LabelFrame) -> tuple[Int32, Int32, int]:
    """Put both frames' rows into shared groups: int32[S_left], int32[S_right] and the number of groups G.

    Rows are equal when they have the same labels; frames share one scope.
    """
    both = LabelFrame.concat([left, right])
    groups, first = both.groups()
    return groups[: len(left)], groups[len(left) :], len(first)


@kernel("(i4[:,::1],)")
def group_rows(codes: Int32) -> tuple[Int32, Int64]:
    """Group equal rows of int32[S,L] by hashing: group of each row int32[S], first row of each group int64[G]."""
    rows, columns = codes.shape
    size = 16
    while size < rows * 2:
        size *= 2
    mask = np.uint64(size - 1)
    table = np.full(size, -1, np.int32)
    groups = np.empty(rows, np.int32)
    first = np.empty(rows, np.int64)
    count = 0
    for row in range(rows):
        h = np.uint64(0x9E3779B97F4A7C15)
        for column in range(columns):
            h = (h ^ np.uint64(np.uint32(codes[row, column]))) * np.uint64(0xFF51AFD7ED558CCD)
            h ^= h >> np.uint64(32)
        slot = h & mask
        while True:
            group = table[slot]
            if group < 0:
                table[slot] = count
                groups[row] = count
                first[count] = row
                count += 1
                break
            other = first[group]
            same = True
            for column in range(columns):
                if codes[other, column] != codes[row, column]:
                    same = False
                    break
            if same:
                groups[row] = group
                break
            slot = (slot + np.uint64(1)) & mask
    return groups, first[:count].copy()


def intern_all(symbols: Symbols | SymbolScope, texts: Iterable[str]) -> Int32:
    """int32[K] ids of K strings."""
    return np.fromiter((symbols.intern(text) for text in texts), np.int32)


__all__ = ["LabelFrame", "SymbolScope", "Symbols", "group_rows", "intern_all", "match_rows"]
