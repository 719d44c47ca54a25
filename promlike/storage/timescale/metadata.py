"""Metadata of metrics in the database: the newest that any writer told."""

from collections.abc import Sequence
from typing import Any

from promlike.storage.access import Metadata
from promlike.storage.timescale.text import original, storable

UPSERT = """
INSERT INTO metadata (metric, type, help, unit) VALUES ($1, $2, $3, $4)
ON CONFLICT (metric) DO UPDATE SET type = excluded.type, help = excluded.help, unit = excluded.unit
"""


async def load_metadata(connection: Any) -> list[Metadata]:
    """See `Store.load_metadata`."""
    rows = await connection.fetch("SELECT metric, type, help, unit FROM metadata ORDER BY metric")
    return [
        Metadata(metric=original(row["metric"]), type=row["type"], help=original(row["help"]), unit=original(row["unit"])) for row in rows
    ]


async def write_metadata(connection: Any, metadata: Sequence[Metadata]) -> None:
    """Inside the transaction of a flush."""
    rows = [(storable(entry.metric), entry.type, storable(entry.help), storable(entry.unit)) for entry in metadata]
    await connection.executemany(UPSERT, rows)
