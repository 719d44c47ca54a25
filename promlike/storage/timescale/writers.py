"""Writers: the daemons that write into one database. Their flushes happen one after the other, and each has its own WAL position."""

from typing import Any
from uuid import UUID

from promlike.errors import StorageError
from promlike.storage.store import WalPosition
from promlike.storage.timescale.times import to_ms, to_time
from promlike.storage.timescale.version2 import NOBODY

STORED_UNTIL = (
    "ALTER TABLE writers ADD COLUMN stored_until timestamptz",
    "UPDATE writers SET stored_until = last_seen_at WHERE segment IS NOT NULL",
)
"""What version 13 of the schema adds: by the database's clock, until when what came to a writer is stored. `last_seen_at` tells when it was
there."""

ABSENT = "5 minutes"
"""A writer that was not seen for so long is not waited for: what it stores when it comes back is late, and rolled up again."""
OTHERS_STORED = f"SELECT min(stored_until) FROM writers WHERE number <> $1 AND last_seen_at > now() - INTERVAL '{ABSENT}'"
PRESENT = "UPDATE writers SET last_seen_at = now(), stored_until = CASE WHEN $2 THEN now() ELSE stored_until END WHERE number = $1"

AWAY = "1 day"
"""A writer that was not seen for so long may be forgotten: not sooner, however short samples are kept and wrong a clock is."""
FORGET_ABSENT = (
    f"WITH gone AS (DELETE FROM writers WHERE last_seen_at < least($1, now() - INTERVAL '{AWAY}') RETURNING number)"
    " SELECT count(*) FROM gone"
)
DURABLE = "SELECT set_config('synchronous_commit', 'local', true) WHERE current_setting('synchronous_commit') = 'off'"
"""Whatever the server's configuration says: what is committed leaves the WAL, so it must be on disk."""
DROP_UNUSED = "DELETE FROM series WHERE NOT EXISTS (SELECT FROM writer_series WHERE series_id = id)"


async def enter_writer(connection: Any, writer: UUID, *, takes_over: bool) -> int:
    """The number of a writer, made when the database does not know it.

    `takes_over`: the data folder is from before writers had ids, so what the database has from then is of this writer.
    """
    if takes_over:
        await connection.execute("UPDATE writers SET id = $1 WHERE id = $2", writer, UUID(NOBODY))
    await connection.execute(
        "INSERT INTO writers (id) SELECT $1 WHERE NOT EXISTS (SELECT FROM writers WHERE id = $1) ON CONFLICT DO NOTHING", writer
    )
    return int(await connection.fetchval("SELECT number FROM writers WHERE id = $1", writer))


async def begin_flush(connection: Any, statement_s: float) -> int:
    """Wait for the flushes of other writers to end; the number of this one. They are numbered in the order in which they are committed."""
    # Another writer's flush may take as long as a statement, not only as long as a lock is waited for otherwise.
    await connection.execute(f"SET LOCAL lock_timeout = {int(statement_s * 1000)}")
    await connection.execute(DURABLE)
    return int(await connection.fetchval("UPDATE database_state SET last_flush = last_flush + 1 RETURNING last_flush"))


async def last_flush(connection: Any) -> int:
    """The number of the last flush, of any writer, that is committed."""
    return int(await connection.fetchval("SELECT last_flush FROM database_state"))


class OwnFlushes:
    """Tells our flushes from those of others by their numbers. One that we do not know to be committed yet counts as another's."""

    def __init__(self) -> None:
        self._own: set[int] = set()
        self._seen = 0
        self._foreign = 0

    def committed(self, flush: int) -> None:
        self._own.add(flush)

    def foreign(self, last: int) -> int:
        """A number that rises when there was a flush of another up to `last` since this was asked before."""
        if last > self._seen:
            ours = {flush for flush in self._own if self._seen < flush <= last}
            self._foreign += len(ours) < last - self._seen
            self._own -= ours
            self._seen = last
        return self._foreign


async def load_position(connection: Any, writer: int) -> WalPosition | None:
    """See `Store.load_position`. Inside a transaction.

    Waits for the writer's own flush to end, which may still be going on in the server after the process that began it was killed.
    """
    row = await connection.fetchrow("SELECT segment, byte_offset FROM writers WHERE number = $1 FOR UPDATE", writer)
    return None if row is None or row["segment"] is None else WalPosition(segment=row["segment"], offset=row["byte_offset"])


def later(one: WalPosition | None, other: WalPosition | None) -> WalPosition | None:
    """The later of two positions, of which None is the first."""
    if one is None or other is None:
        return one or other
    return one if (one.segment, one.offset) > (other.segment, other.offset) else other


def check_stored(stored: WalPosition | None, known: WalPosition | None) -> None:
    """Raise StorageError when less is stored than was known to be: ids that series got since mean nothing any more, or others."""
    if later(stored, known) != stored:
        raise StorageError(
            "the database has less than this daemon stored: it went back to an earlier time, or others have forgotten the daemon, which was"
            " away for longer than samples are kept; start promlike again"
        )


async def write_position(connection: Any, writer: int, position: WalPosition) -> None:
    """Inside the transaction of a flush."""
    query = "UPDATE writers SET segment = $2, byte_offset = $3, last_seen_at = now(), stored_until = now() WHERE number = $1"
    await connection.execute(query, writer, position.segment, position.offset)


async def note_presence(connection: Any, writer: int, *, has_stored_all: bool) -> None:
    """See `Store.note_presence`."""
    await connection.execute(PRESENT, writer, has_stored_all)


async def others_stored_ms(connection: Any, writer: int) -> int | None:
    """By the database's clock, until when what came to other writers that are there is stored; None without any."""
    return to_ms(await connection.fetchval(OTHERS_STORED, writer))


async def forget_absent_writers(connection: Any, writer: int, cutoff_ms: int) -> None:
    """Forget the writers that were not seen since a time, nor lately, and the series that no other writer has; note that this one is there.

    What such a writer may still have in its WAL is older than what is kept.
    """
    await connection.execute("UPDATE writers SET last_seen_at = now() WHERE number = $1", writer)
    if await connection.fetchval(FORGET_ABSENT, to_time(cutoff_ms)):
        await connection.execute(DROP_UNUSED)
