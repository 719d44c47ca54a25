"""Labels of many series as a store keeps them, JSON objects of strings, taken apart without a Python object for a series.

One kernel walks the text and finds the strings that differ; only those become Python strings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from promlike.errors import StorageError
from promlike.kernel import inlined, kernel
from promlike.model.blocks import Bool, Int32, Int64

UInt8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelColumns:
    """Labels of S series. `pairs int32[2P]` are names and values by turns, as positions in `strings`; those of series s stand at
    `pairs[2 * offsets[s] : 2 * offsets[s + 1]]` (`offsets int64[S+1]`), in any order.
    """

    strings: list[str]
    pairs: Int32
    offsets: Int64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: Bool) -> "LabelColumns":
        """The series of `rows bool[S]`."""
        counts = np.diff(self.offsets)
        kept = np.repeat(np.repeat(rows, counts), 2)
        return LabelColumns(strings=self.strings, pairs=self.pairs[kept], offsets=np.append(0, np.cumsum(counts[rows])))


NO_LABELS = LabelColumns(strings=[], pairs=np.empty(0, np.int32), offsets=np.zeros(1, np.int64))


def read_labels(text: UInt8, starts: Int64, ends: Int64, original: Callable[[str], str] | None = None) -> LabelColumns:
    """The labels of S series, whose JSON objects stand at `text[starts[s]:ends[s]]` (`uint8[B]`, `int64[S]`).

    `original` undoes what a store does to strings that it cannot keep as they are. Raises StorageError when an object has other values
    than strings.
    """
    most = int(np.count_nonzero(text == QUOTE)) // 2
    table = np.full(1 << max(most * 2 - 1, 1).bit_length(), -1, np.int32)
    string_starts, string_ends = np.empty(most, np.int64), np.empty(most, np.int64)
    escaped = np.zeros(most, np.bool_)
    pairs, offsets = np.empty(most, np.int32), np.zeros(len(starts) + 1, np.int64)
    found = split_objects(text, starts, ends, table, string_starts, string_ends, escaped, pairs, offsets)
    if found < 0:
        wrong = -found - 1
        shown = text[starts[wrong] : ends[wrong]].tobytes()[:200].decode("utf-8", "replace")
        raise StorageError(f"the store has labels that are no JSON object of strings: {shown}")
    strings = _strings(text, string_starts[:found], string_ends[:found], escaped[:found])
    if original is not None:
        strings = [original(string) for string in strings]
    return LabelColumns(strings=strings, pairs=pairs[: 2 * offsets[-1]].copy(), offsets=offsets)


def _strings(text: UInt8, starts: Int64, ends: Int64, escaped: Bool) -> list[str]:
    """The strings between the quotes at these places."""
    data = text.tobytes()
    strings: list[Any] = [data[start:end].decode() for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    for at in np.flatnonzero(escaped).tolist():
        strings[at] = orjson.loads(b'"' + data[starts[at] : ends[at]] + b'"')
    return strings


QUOTE, BACKSLASH, COLON, COMMA, OPEN, CLOSE = (np.uint8(ord(char)) for char in '"\\:,{}')
SPACE = np.uint8(32)


@inlined
def _skip_space(text: UInt8, at: int, end: int) -> int:
    while at < end and text[at] <= SPACE:
        at += 1
    return at


@inlined
def _string_end(text: UInt8, at: int, end: int) -> int:
    """Where the string that begins at `at` has its closing quote, `end` when it has none."""
    while at < end and text[at] != QUOTE:
        at += 2 if text[at] == BACKSLASH else 1
    return min(at, end)


@inlined
def _is_at(text: UInt8, start: int, end: int, other_start: int, other_end: int) -> bool:
    """Are the bytes of two places the same?"""
    if other_end - other_start != end - start:
        return False
    for i in range(end - start):  # noqa: SIM110  # Numba compiles loops, not all()
        if text[other_start + i] != text[start + i]:
            return False
    return True


@inlined
def _entry(text: UInt8, start: int, end: int, table: Int32, starts: Int64, ends: Int64, escaped: Bool, count: int) -> int:
    """The position of a string among those found so far, of which there are `count`; it is entered when it is new."""
    hashed = np.uint64(0xCBF29CE484222325)
    escapes = False
    for at in range(start, end):
        hashed = (hashed ^ np.uint64(text[at])) * np.uint64(0x100000001B3)
        escapes |= text[at] == BACKSLASH
    hashed ^= hashed >> np.uint64(32)
    mask = np.uint64(len(table) - 1)
    slot = hashed & mask
    while table[slot] >= 0:
        other = table[slot]
        if _is_at(text, start, end, starts[other], ends[other]):
            return int(other)
        slot = (slot + np.uint64(1)) & mask
    table[slot] = count
    starts[count], ends[count], escaped[count] = start, end, escapes
    return count


@kernel("(u1[::1], i8[::1], i8[::1], i4[::1], i8[::1], i8[::1], b1[::1], i4[::1], i8[::1])")
def split_objects(
    text: UInt8,
    starts: Int64,
    ends: Int64,
    table: Int32,
    string_starts: Int64,
    string_ends: Int64,
    escaped: Bool,
    pairs: Int32,
    offsets: Int64,
) -> int:
    """Take JSON objects of strings apart; see `read_labels`. `table` has a power of two of slots, more than strings, all -1.

    Most strings stand at the same place of the object before, which costs less to find out than a look into the table.
    Returns how many different strings there are, or -1 - s when object s is none.
    """
    strings = 0
    written = 0
    before = np.int64(0)
    for s in range(len(starts)):
        at, end = _skip_space(text, starts[s], ends[s]), ends[s]
        if at == end or text[at] != OPEN:
            return -1 - s
        at = _skip_space(text, at + 1, end)
        wanted = at < end and text[at] == QUOTE
        while wanted:
            for part in range(2):
                if at >= end or text[at] != QUOTE:
                    return -1 - s
                close = _string_end(text, at + 1, end)
                if close == end:
                    return -1 - s
                likely = 2 * (before + written - offsets[s]) + part
                entry = pairs[likely] if likely < 2 * offsets[s] else -1
                if entry < 0 or not _is_at(text, at + 1, close, string_starts[entry], string_ends[entry]):
                    entry = _entry(text, at + 1, close, table, string_starts, string_ends, escaped, strings)
                    strings = max(strings, entry + 1)
                pairs[2 * written + part] = entry
                at = _skip_space(text, close + 1, end)
                if part == 0:
                    if at >= end or text[at] != COLON:
                        return -1 - s
                    at = _skip_space(text, at + 1, end)
            written += 1
            wanted = at < end and text[at] == COMMA
            if wanted:
                at = _skip_space(text, at + 1, end)
        if at >= end or text[at] != CLOSE:
            return -1 - s
        before = offsets[s]
        offsets[s + 1] = written
    return strings
