"""Series, their metadata and how far the WAL has been stored, in the database."""

from collections.abc import Iterable, Sequence
from typing import Any

from promlike.model.labels import METRIC_NAME, labels
from promlike.storage.store import Metadata, SeriesRecord, WalPosition
from promlike.storage.timescale.text import original, storable
from promlike.storage.timescale.times import to_ms

UPSERT_METADATA = """
INSERT INTO metadata (metric, type, help, unit) VALUES ($1, $2, $3, $4)
ON CONFLICT (metric) DO UPDATE SET type = excluded.type, help = excluded.help, unit = excluded.unit
"""
UPSERT_POSITION = """
INSERT INTO wal_position (segment, byte_offset) VALUES ($1, $2)
ON CONFLICT (only_row) DO UPDATE SET segment = excluded.segment, byte_offset = excluded.byte_offset
"""


async def load_series(connection: Any) -> list[SeriesRecord]:
    """See `Store.load_series`."""
    return [_series_record(row) for row in await connection.fetch("SELECT id, labels, min_time, max_time FROM series ORDER BY id")]


async def write_series(connection: Any, series: Iterable[SeriesRecord]) -> None:
    """Insert series; one that is there already is replaced."""
    named = [(each.ref, {storable(name): storable(value) for name, value in each.labels}) for each in series]
    if named:
        rows = [(ref, pairs.get(METRIC_NAME, ""), pairs) for ref, pairs in named]
        await connection.execute("DELETE FROM series WHERE id = ANY($1::int[])", [row[0] for row in rows])
        await connection.executemany("INSERT INTO series (id, metric, labels) VALUES ($1, $2, $3)", rows)


async def load_metadata(connection: Any) -> list[Metadata]:
    """See `Store.load_metadata`."""
    rows = await connection.fetch("SELECT metric, type, help, unit FROM metadata ORDER BY metric")
    return [
        Metadata(metric=original(row["metric"]), type=row["type"], help=original(row["help"]), unit=original(row["unit"])) for row in rows
    ]


async def write_metadata(connection: Any, metadata: Sequence[Metadata]) -> None:
    await connection.executemany(UPSERT_METADATA, [_metadata_row(each) for each in metadata])


async def load_position(connection: Any) -> WalPosition | None:
    """See `Store.load_position`."""
    row = await connection.fetchrow("SELECT segment, byte_offset FROM wal_position")
    return None if row is None else WalPosition(segment=row["segment"], offset=row["byte_offset"])


async def write_position(connection: Any, position: WalPosition) -> None:
    await connection.execute(UPSERT_POSITION, position.segment, position.offset)


def _series_record(row: Any) -> SeriesRecord:
    pairs = labels((original(name), original(value)) for name, value in row["labels"].items())
    return SeriesRecord(ref=row["id"], labels=pairs, min_time_ms=to_ms(row["min_time"]), max_time_ms=to_ms(row["max_time"]))


def _metadata_row(entry: Metadata) -> tuple[str, str, str, str]:
    return storable(entry.metric), entry.type, storable(entry.help), storable(entry.unit)
