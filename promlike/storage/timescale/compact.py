"""Putting the small batches of many flushes together.

A flush writes what it has of each series as one compressed batch, 40 samples when a sample comes every 15 s: three times the bytes a sample
of full batches. So a day's chunk is compressed once more when it is over, and again when late samples have changed more than a part of it.
"""

import logging
import time

from promlike.storage.timescale.connection import Database, is_alone

log = logging.getLogger(__name__)

FRAGMENTED = """
SELECT format('%I.%I', chunk_schema, chunk_name) AS chunk, day, samples
FROM timescaledb_information.chunks JOIN sample_days ON day = floor(extract(epoch FROM range_start) / 86400)
WHERE hypertable_schema = current_schema() AND hypertable_name = 'samples'
  AND range_end < now() - INTERVAL '1 hour' AND abs(samples - compacted) > samples / 50
ORDER BY day DESC
"""
TIMEOUT_S = 3600.0
"""For one day."""

COLUMN = ("ALTER TABLE sample_days ADD COLUMN compacted bigint NOT NULL DEFAULT 0",)
"""What version 9 of the schema adds: how many samples a day had when its chunk was compressed as a whole."""


async def compact(database: Database) -> int:
    """Compress the chunks of days that are over as a whole; how many. One daemon at a time does so."""
    done = 0
    async with database.connection("put compressed samples together") as connection:
        if not await is_alone(connection, "compact", database.schema):
            return 0
        await connection.execute(f"SET statement_timeout = '{TIMEOUT_S}s'")
        await connection.execute("SET client_min_messages = error")
        for row in await connection.fetch(FRAGMENTED):
            started = time.monotonic()
            # Not inside a transaction: it would keep its locks on until the end of all chunks.
            await connection.execute(f"CALL convert_to_columnstore('{row['chunk']}', recompress => true)", timeout=TIMEOUT_S)
            await connection.execute("UPDATE sample_days SET compacted = $2 WHERE day = $1", row["day"], row["samples"])
            log.debug("%d samples of chunk %s put together in %.1f s", row["samples"], row["chunk"], time.monotonic() - started)
            done += 1
    return done
