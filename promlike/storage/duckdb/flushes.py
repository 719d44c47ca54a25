"""The book of flushes in DuckDB: what each changed, so that it is known after a restart which of the kept answers still hold."""

import secrets
from collections.abc import Sequence

import duckdb

from promlike.model.clock import wall_clock_ms
from promlike.model.flushes import FOREVER_MS, FlushNews, FlushRecord, StoredChange, decode_changes, encode_changes
from promlike.storage.duckdb.rows import put_state

KEPT_MS = 2 * 86_400_000
"""How long is known what a flush changed: longer than answers are kept in Redis."""


def note_flush(connection: duckdb.DuckDBPyConnection, changes: Sequence[StoredChange]) -> int:
    """Tell what a flush changed, inside its transaction; its number."""
    number, now_ms = load_number(connection, "flush") + 1, wall_clock_ms()
    put_state(connection, "flush", number)
    connection.execute("DELETE FROM flushes WHERE noted_at < $1", [now_ms - KEPT_MS])
    token = secrets.randbits(63)
    connection.execute("INSERT INTO flushes VALUES ($1, $2, $3, $4)", [number, token, now_ms, encode_changes(changes)])
    return number


def note_deleted_before(connection: duckdb.DuckDBPyConnection, cutoff_ms: int) -> int:
    """Tell that retention deleted everything before a time, inside its transaction; the number of that flush."""
    put_state(connection, "deleted_before", max(cutoff_ms, load_number(connection, "deleted_before")))
    return note_flush(connection, [StoredChange(metric=None, start_ms=-FOREVER_MS, end_ms=cutoff_ms - 1)])


def load_flushes(connection: duckdb.DuckDBPyConnection, after: int) -> FlushNews:
    """See `Store.load_flushes`."""
    last = load_number(connection, "flush")
    query = "SELECT number, token, changes FROM flushes WHERE number > $1 AND number <= $2 ORDER BY number"
    rows = connection.execute(query, [after if after <= last else 0, last]).fetchall()
    records = tuple(FlushRecord(number=number, token=token, own=True, changes=decode_changes(text)) for number, token, text in rows)
    # The head may have what retention deleted from the file, and shows it when it is told to keep samples for longer.
    gone = StoredChange(metric=None, start_ms=-FOREVER_MS, end_ms=load_number(connection, "deleted_before") - 1)
    return FlushNews(last=last, records=records, disputes=(gone,))


def load_number(connection: duckdb.DuckDBPyConnection, key: str) -> int:
    """A number of the table `state`."""
    return int(connection.execute("SELECT value FROM state WHERE key = $1", [key]).fetchall()[0][0])
