"""Rows of SQL answers as text: JSON and CSV, written column by column from Arrow, without a Python object for a row or a value.

Each column becomes texts, the texts of a row are joined, and as Arrow keeps texts one after the other, the rows of a batch are then one
piece of memory.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no type information
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same
from numpy.typing import NDArray

from promlike.api.json_text import to_json
from promlike.storage.sql import SqlColumn, TextKind

TEXT = pa.large_string()
"""Offsets of 64 bits: long texts of many rows together may have more than 2 GiB."""

UNITS = ["ns", "us", "ms", "s"]
"""Of times, each a thousand of the one before."""

_BYTES = np.arange(256)
_CONTROL: NDArray[np.bool_] = _BYTES < 32
_ESCAPED: NDArray[np.bool_] = np.isin(_BYTES, list(b'\\"'))
_IN_CSV: NDArray[np.bool_] = np.isin(_BYTES, list(b'",\r\n'))
_NUMBER = r"^-?[0-9]"
_UNSAID = r"\b(?:NaN|Infinity)\b"
"""What JSON may hold that some database wrote, though JSON has no such numbers."""
_WORDS = {"NaN": "NaN", "Infinity": "+Inf", "-Infinity": "-Inf"}
"""Numbers that are none in Prometheus's words, which are texts in JSON."""


def json_columns(columns: Sequence[SqlColumn]) -> bytes:
    """The description of the columns."""
    return to_json([{"name": column.name, "type": column.type} for column in columns])


def json_rows(columns: Sequence[SqlColumn], batch: pa.RecordBatch) -> memoryview:
    """The rows as arrays, each behind a comma."""
    return _rows(columns, batch, _json, separator=",", before=",[", after="]", null="null")


def csv_header(columns: Sequence[SqlColumn]) -> bytes:
    """The names of the columns as a line of RFC 4180."""
    names = _quoted_csv(pa.array([column.name for column in columns], TEXT))
    return ",".join(names.to_pylist()).encode() + b"\r\n"


def csv_rows(columns: Sequence[SqlColumn], batch: pa.RecordBatch) -> memoryview:
    """The rows as lines of RFC 4180. NULL is nothing between commas, an empty text two quotes."""
    return _rows(columns, batch, _csv, separator=",", before="", after="\r\n", null="")


def _rows(
    columns: Sequence[SqlColumn],
    batch: pa.RecordBatch,
    write: Callable[[SqlColumn, Any], Any],
    *,
    separator: str,
    before: str,
    after: str,
    null: str,
) -> memoryview:
    texts = [write(column, array) for column, array in zip(columns, batch.columns, strict=True)]
    cells = [pc.fill_null(text.cast(TEXT), null) for text in texts]
    joined = pc.binary_join_element_wise(*cells, pa.scalar(separator, TEXT))
    rows = pc.binary_join_element_wise(pa.scalar(before, TEXT), joined, pa.scalar(after, TEXT), pa.scalar("", TEXT))
    _, offsets, data = rows.buffers()
    bounds = np.frombuffer(offsets, np.int64)[rows.offset : rows.offset + len(rows) + 1]
    return memoryview(data)[int(bounds[0]) : int(bounds[-1])] if data is not None else memoryview(b"")


def _json(column: SqlColumn, array: Any) -> Any:
    kind = array.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return array.cast(pa.string())
    if pa.types.is_floating(kind):
        return _number(array, '"{}"')
    if pa.types.is_temporal(kind):
        return _between_quotes(_time(array))
    texts = array.cast(TEXT)
    match column.texts:
        case TextKind.NUMBER:
            return pc.if_else(pc.match_substring_regex(texts, _NUMBER), texts, _quoted_json(_in_words(texts)))
        case TextKind.JSON:
            return _valid(texts)
        case TextKind.PLAIN:
            return _quoted_json(texts)


def _csv(column: SqlColumn, array: Any) -> Any:
    kind = array.type
    if pa.types.is_floating(kind):
        return _number(array, "{}")
    if pa.types.is_temporal(kind):
        return _time(array)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = array.cast(TEXT)
        return _in_words(texts) if column.texts is TextKind.NUMBER else _quoted_csv(texts)
    return array.cast(pa.string())


def _number(array: Any, shown: str) -> Any:
    """Floats; what is no finite number in Prometheus's words, as `shown`."""
    texts = array.cast(TEXT)
    if pc.all(pc.is_finite(array)).as_py() is not False:
        return texts
    words = [pa.scalar(shown.format(word), TEXT) for word in _WORDS.values()]
    strange = pc.if_else(pc.is_nan(array), words[0], pc.if_else(pc.greater(array, 0), words[1], words[2]))
    return pc.if_else(pc.is_finite(array), texts, strange)


def _in_words(texts: Any) -> Any:
    """Numbers as texts, the same."""
    for theirs, ours in _WORDS.items():
        texts = pc.if_else(pc.equal(texts, theirs), pa.scalar(ours, TEXT), texts)
    return texts


def _time(array: Any) -> Any:
    """RFC 3339, with the fraction that the rows of this batch need; the ends of time, which DuckDB knows, in SQL's words."""
    is_date = pa.types.is_date(array.type)
    counts = array.view(pa.int32() if is_date else pa.int64())
    if is_date:
        texts = array.cast(TEXT)
    else:
        # Without the time zone, which is UTC: with it, Arrow takes fifty times as long.
        plain = _coarsest(counts, array.type.unit)
        texts = pc.replace_substring(plain.cast(TEXT), " ", "T", max_replacements=1)
        if array.type.tz is not None:
            texts = pc.binary_join_element_wise(texts, pa.scalar("Z", TEXT), pa.scalar("", TEXT))
    last = np.iinfo(np.int32 if is_date else np.int64).max
    if pc.any(pc.equal(pc.abs(counts), last)).as_py():
        texts = pc.if_else(pc.equal(counts, last), pa.scalar("infinity", TEXT), texts)
        texts = pc.if_else(pc.equal(counts, -last), pa.scalar("-infinity", TEXT), texts)
    return texts


def _coarsest(counts: Any, unit: str) -> Any:
    """Times in the coarsest unit that shows all of them, given as counts of another."""
    counted = counts.to_numpy(zero_copy_only=False) if not counts.null_count else pc.fill_null(counts, 0).to_numpy()
    units = UNITS[UNITS.index(unit) :]
    while len(units) > 1 and not (counted % 1000).any():
        counted, units = counted // 1000, units[1:]
    times = pa.array(counted, pa.timestamp(units[0]))
    return pc.if_else(pc.is_valid(counts), times, None) if counts.null_count else times


def _has(texts: Any, wanted: NDArray[np.bool_]) -> bool:
    """Is any byte of the texts one of the wanted, `bool[256]`? Faster than asking each text."""
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return False
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return bool(wanted[np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]]].any())


def _quoted_json(texts: Any) -> Any:
    """Texts of JSON, with the escapes that it cannot do without."""
    if _has(texts, _ESCAPED):
        texts = pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), '"', '\\"')
    if _has(texts, _CONTROL):
        for code in range(32):
            texts = pc.replace_substring(texts, chr(code), orjson.dumps(chr(code))[1:-1].decode())
    return _between_quotes(texts)


def _quoted_csv(texts: Any) -> Any:
    is_empty = pc.equal(texts, "")
    if _has(texts, _IN_CSV):
        needs = pc.or_(pc.match_substring_regex(texts, '[",\r\n]'), is_empty)
        return pc.if_else(needs, _between_quotes(pc.replace_substring(texts, '"', '""')), texts)
    return pc.if_else(is_empty, pa.scalar('""', TEXT), texts)


def _between_quotes(texts: Any) -> Any:
    return pc.binary_join_element_wise(pa.scalar('"', TEXT), texts, pa.scalar('"', TEXT), pa.scalar("", TEXT))


def _valid(texts: Any) -> Any:
    """JSON, on one line each, whose numbers are numbers. The few that may not be so are read and written again, one by one."""
    suspect = pc.fill_null(pc.match_substring_regex(texts, _UNSAID), False)
    if not pc.any(suspect).as_py():
        return texts
    places = np.flatnonzero(suspect.to_numpy(zero_copy_only=False))
    again = [json.dumps(json.loads(texts[int(i)].as_py(), parse_constant=_WORDS.__getitem__)) for i in places]
    return pc.replace_with_mask(texts, suspect, pa.array(again, TEXT))
