"""Bringing a database to the schema that this promlike knows: numbered steps, each applied once, all in one transaction."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker

from promlike.errors import StorageError
from promlike.storage.timescale import compact, days, flushes, views, writers
from promlike.storage.timescale.connection import quote_name
from promlike.storage.timescale.convert import pack_old_rows
from promlike.storage.timescale.exemplars import exemplar_tables
from promlike.storage.timescale.server import check_version
from promlike.storage.timescale.version1 import first_tables
from promlike.storage.timescale.version2 import series_of_several_writers
from promlike.storage.timescale.version3 import views_for_people
from promlike.storage.timescale.version4 import functions_for_people
from promlike.storage.timescale.version7 import rollup_tiers
from promlike.storage.timescale.version11 import packed_tiers
from promlike.storage.timescale.version12 import decimal_values

log = logging.getLogger(__name__)


ENCODINGS = ("UTF8", "SQL_ASCII")
"""Those that take every text in UTF-8, the second one as bytes."""
LOOK_S = 0.2
"""How often is looked whether another daemon is done with the schema."""
SOON_S = 1.0
TELL_S = 30.0
"""When, and how often from then on, is said that it is not."""
LOCK = "hashtextextended($1, 0)"
HOLDER = f"""
SELECT pid, coalesce(host(client_addr), 'the machine of the database') AS host, xact_start
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32 | objid::bigint) = {LOCK} AND objsubid = 1
"""
"""Who has the lock of the schema. PostgreSQL shows the two halves of its number: "View pg_locks" in its documentation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A step from version - 1 to `version`: `statements(timescale)`, `timescale` saying whether the database has the extension.

    They run with the store's schema first in the `search_path`, so they name its tables without a schema. Once released, a step is
    never changed.
    """

    version: int
    name: str
    statements: Callable[[bool], Sequence[str]]
    convert: Callable[[Any], Awaitable[None]] | None = None
    """What statements cannot do; runs after them."""


MIGRATIONS: tuple[Migration, ...] = (
    Migration(version=1, name="series, samples, metadata, WAL position", statements=first_tables),
    Migration(version=2, name="ids from the database, several writers", statements=series_of_several_writers),
    Migration(version=3, name="views for people", statements=views_for_people),
    Migration(version=4, name="functions for people", statements=functions_for_people),
    Migration(version=5, name="exemplars", statements=exemplar_tables),
    Migration(version=6, name="how many samples each day has", statements=lambda timescale: days.TABLES),
    Migration(version=7, name="rollup tiers", statements=rollup_tiers),
    Migration(version=8, name="index of the changes that views follow", statements=lambda timescale: views.CHANGES_BY_ID),
    Migration(version=9, name="days whose samples were put together", statements=lambda timescale: compact.COLUMN),
    Migration(version=10, name="what flushes changed", statements=lambda timescale: flushes.TABLES),
    Migration(version=11, name="packed rollup tiers", statements=packed_tiers, convert=pack_old_rows),
    Migration(version=12, name="values as decimal fractions", statements=decimal_values),
    Migration(version=13, name="until when each writer has stored what came", statements=lambda timescale: writers.STORED_UNTIL),
)
"""In order, from 1, without gaps. New steps go to the end."""


async def migrate(connection: Any, schema: str, migrations: Sequence[Migration] = MIGRATIONS) -> bool:
    """Apply what is missing; whether samples are kept by TimescaleDB. Safe when several daemons do it at once: the others wait, however
    long it takes.

    Raises StorageError when the schema is newer than `migrations`.
    """
    timescale = await _extension(connection)
    if timescale:
        await check_version(connection)  # before anything is made that an older one does not know
    async with _alone(connection, f"promlike schema {schema}"):
        await connection.execute("SET LOCAL client_min_messages = warning")
        # Not IF NOT EXISTS alone, which asks for a right on the database that a daemon on an existing schema need not have.
        if await connection.fetchval("SELECT to_regnamespace($1) IS NULL", quote_name(schema)):
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_name(schema)}")
        await connection.execute(
            f"CREATE TABLE IF NOT EXISTS {quote_name(schema)}.schema_version"
            " (version int PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        found = await connection.fetchval("SELECT coalesce(max(version), 0) FROM schema_version")
        if found > len(migrations):
            raise StorageError(
                f"schema {schema!r} of the database has version {found}, this promlike knows versions up to {len(migrations)}"
            )
        if found:
            timescale = await _is_hypertable(connection)
        await _check_encoding(connection, is_new=not found)
        for migration in migrations[found:]:
            for statement in migration.statements(timescale):
                await connection.execute(statement)
            if migration.convert is not None:
                await migration.convert(connection)
            await connection.execute("INSERT INTO schema_version (version, name) VALUES ($1, $2)", migration.version, migration.name)
            log.debug("schema %r brought to version %d: %s", schema, migration.version, migration.name)
    return timescale


@asynccontextmanager
async def _alone(connection: Any, lock: str) -> AsyncIterator[None]:
    """A transaction that nobody else has at the same time who asks for the same lock."""
    told, tell_at = False, time.monotonic() + SOON_S
    while True:
        # Each attempt is a transaction of its own, so that nothing stays open meanwhile that the other one would have to wait for.
        async with connection.transaction():
            if await connection.fetchval(f"SELECT pg_try_advisory_xact_lock({LOCK})", lock):
                if told:
                    log.info("the other daemon is done with the schema of the database, the start goes on")
                yield
                return
            if time.monotonic() >= tell_at:
                told, tell_at = True, time.monotonic() + TELL_S
                log.warning(
                    "the start waits for another daemon, which brings the schema of the database up to date%s",
                    await _holder(connection, lock),
                )
        await asyncio.sleep(LOOK_S)


async def _holder(connection: Any, lock: str) -> str:
    """Who has a lock, as far as it can be seen."""
    row = await connection.fetchrow(HOLDER, lock)
    return (
        ""
        if row is None or row["xact_start"] is None
        else f", on {row['host']} since {row['xact_start']:%Y-%m-%dT%H:%M:%SZ} (pid {row['pid']})"
    )


async def _is_hypertable(connection: Any) -> bool:
    """What the first start found decides for good: a database that gets the extension later keeps its partitions."""
    return bool(await connection.fetchval("SELECT relkind <> 'p' FROM pg_class WHERE oid = 'samples'::regclass"))


async def _check_encoding(connection: Any, *, is_new: bool) -> None:
    """Raise StorageError where labels could not be stored; for a schema that is in use only say so, since all may have gone well."""
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding in ENCODINGS:
        return
    problem = f"the encoding of the database is {encoding}, which has not all characters of labels: one that is missing stops all flushes"
    if is_new:
        raise StorageError(f"{problem}. Create it with: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0")
    log.warning("%s", problem)


async def _extension(connection: Any) -> bool:
    """Whether the database has TimescaleDB; created where the server is ready for it."""
    installed = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')"
    if await connection.fetchval(installed):
        return True
    # Where the library is not preloaded, CREATE EXTENSION ends the session; its setting is there only when it is loaded.
    loaded = await connection.fetchval("SELECT current_setting('timescaledb.max_background_workers', true) IS NOT NULL")
    available = await connection.fetchval("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')")
    if not available or not loaded:
        return False
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL client_min_messages = warning")
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('promlike extension', 0))")
            await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    except asyncpg.InsufficientPrivilegeError as error:
        log.warning("TimescaleDB is there, but this user may not create the extension, so it is not used: %s", error)
        return False
    return True
