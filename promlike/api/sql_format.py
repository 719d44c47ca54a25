"""The formats that SQL is answered in: JSON in the envelope, CSV, Arrow's stream; each in parts, one for each batch of rows."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Protocol

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no type information
from aiohttp import hdrs, web

from promlike.api.json_text import to_json
from promlike.api.sql_texts import csv_header, csv_rows, json_columns, json_rows
from promlike.storage.sql import SqlColumn, SqlRows


class Format(StrEnum):
    """As the parameter `format` names them."""

    JSON = "json"
    CSV = "csv"
    ARROW = "arrow"

    @property
    def content_type(self) -> str:
        return _CONTENT_TYPES[self]


_CONTENT_TYPES = {
    Format.JSON: "application/json",
    Format.CSV: "text/csv; charset=utf-8; header=present",
    Format.ARROW: "application/vnd.apache.arrow.stream",
}


class Writer(Protocol):
    """Writes one answer. `says_cut`: can it tell in `end` that rows were left out?"""

    says_cut: bool

    def begin(self) -> bytes: ...

    def rows(self, batch: pa.RecordBatch) -> bytes: ...

    def end(self, warnings: Sequence[str]) -> bytes: ...


def accepted_format(request: web.Request) -> Format:
    """The one that the Accept headers like best; JSON when they like none, and the first of those they like alike."""
    best, most = Format.JSON, 0.0
    for entry in ",".join(request.headers.getall(hdrs.ACCEPT, [])).split(","):
        kind, *options = (part.strip().lower() for part in entry.split(";"))
        found = next((one for one in Format if one.content_type.partition(";")[0] == kind), None)
        try:
            weight = float(next((option[2:] for option in options if option.startswith("q=")), "1"))
        except ValueError:
            continue
        if found is not None and weight > most:
            best, most = found, weight
    return best


def writer(kind: Format, answer: SqlRows) -> Writer:
    """What writes an answer."""
    match kind:
        case Format.JSON:
            return JsonWriter(answer.columns)
        case Format.CSV:
            return CsvWriter(answer.columns)
        case Format.ARROW:
            return ArrowWriter(answer)


class JsonWriter:
    """The envelope, whose data has `columns` and `rows`."""

    says_cut = True

    def __init__(self, columns: Sequence[SqlColumn]) -> None:
        self._columns = columns
        self._is_first = True

    def begin(self) -> bytes:
        return b'{"status":"success","data":{"columns":' + json_columns(self._columns) + b',"rows":['

    def rows(self, batch: pa.RecordBatch) -> bytes:
        rows = json_rows(self._columns, batch)
        if self._is_first and len(rows):
            self._is_first = False
            rows = rows[1:]
        return bytes(rows)

    def end(self, warnings: Sequence[str]) -> bytes:
        return b"]}" + (b',"warnings":' + to_json(warnings) if warnings else b"") + b"}"


class CsvWriter:
    """Lines of RFC 4180."""

    says_cut = False

    def __init__(self, columns: Sequence[SqlColumn]) -> None:
        self._columns = columns

    def begin(self) -> bytes:
        return csv_header(self._columns)

    def rows(self, batch: pa.RecordBatch) -> bytes:
        return bytes(csv_rows(self._columns, batch))

    def end(self, warnings: Sequence[str]) -> bytes:
        return b""


class ArrowWriter:
    """Arrow's IPC stream. Each field says in its metadata, under `sql_type`, what the database calls its type."""

    says_cut = False

    def __init__(self, answer: SqlRows) -> None:
        fields = zip(answer.columns, answer.types, strict=True)
        self._schema = pa.schema([pa.field(column.name, kind, metadata={"sql_type": column.type}) for column, kind in fields])
        self._sink = _Sink()
        self._stream = pa.ipc.new_stream(pa.PythonFile(self._sink, "w"), self._schema)

    def begin(self) -> bytes:
        return self._sink.taken()

    def rows(self, batch: pa.RecordBatch) -> bytes:
        self._stream.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=self._schema))
        return self._sink.taken()

    def end(self, warnings: Sequence[str]) -> bytes:
        self._stream.close()
        return self._sink.taken()


class _Sink:
    """A file that Arrow writes to, and whose content is taken away piece by piece."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Arrow closes what it writes to."""

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)
