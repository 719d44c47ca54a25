"""What a server can do beyond plain PostgreSQL, and what that means for the samples."""

import logging
from dataclasses import dataclass
from typing import Any

from promlike.errors import StorageError

log = logging.getLogger(__name__)

OLDEST_VERSION = (2, 18)
"""The first TimescaleDB with the columnstore under its present names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFeatures:
    """`timescale`: samples are in a hypertable with a columnstore, else in daily partitions. `direct_compress`: COPY can write into it."""

    timescale: bool
    direct_compress: bool


async def server_features(connection: Any, *, timescale: bool) -> ServerFeatures:
    """Find out, and tell in the log what is lacking."""
    if not timescale:
        log.warning(
            "the database has no TimescaleDB: samples are kept in daily partitions of plain tables,"
            " uncompressed (about 90 bytes a sample instead of 2)"
        )
        return ServerFeatures(timescale=False, direct_compress=False)
    version = await check_version(connection)
    # The first statement that needs the extension's library loads it, and with it its settings.
    await connection.execute("SELECT hypertable_size('samples')")
    direct = await connection.fetchval("SELECT current_setting('timescaledb.enable_direct_compress_copy', true) IS NOT NULL")
    if not direct:
        log.warning(
            "TimescaleDB %s cannot compress while samples are copied (2.21 or newer can): they are compressed after two days", version
        )
    return ServerFeatures(timescale=True, direct_compress=bool(direct))


async def check_version(connection: Any) -> str:
    """The version of TimescaleDB. Raises StorageError when it is too old, or its functions are where no connection of ours looks."""
    version, schema = await connection.fetchrow(
        "SELECT extversion, nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'timescaledb'"
    )
    if schema not in await connection.fetchval("SELECT current_schemas(true)"):
        raise StorageError(f"the extension timescaledb is in the schema {schema!r}; promlike finds it in 'public' only")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        raise StorageError(f"TimescaleDB {version} is too old: {'.'.join(map(str, OLDEST_VERSION))} or newer is needed")
    return str(version)
