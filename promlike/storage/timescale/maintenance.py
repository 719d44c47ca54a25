"""Deleting what retention no longer keeps."""

from typing import Any

from promlike.model.blocks import Int32
from promlike.storage.timescale.times import to_time


async def delete_before(connection: Any, cutoff_ms: int) -> int:
    """Chunks that are older as a whole are dropped; older rows of the chunk at the border go when it does. Returns -1."""
    await connection.execute("SELECT drop_chunks('samples', older_than => $1::timestamptz)", to_time(cutoff_ms))
    return -1


async def delete_series(connection: Any, refs: Int32) -> None:
    """See `Store.delete_series`."""
    await connection.execute("DELETE FROM series WHERE id = ANY($1::int[])", refs.tolist())
