"""Connections to PostgreSQL: a pool whose every wait ends, and whose errors are promlike's.

Every connection has the store's schema first in its `search_path`: statements name our tables without a schema, whatever it is called.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import unquote_plus

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker

from promlike.errors import PromlikeError, StorageConflict, StorageError, StorageUnavailable, StoreAway
from promlike.storage.options import Timeouts

UNAVAILABLE_CLASSES = ("08", "53", "57", "55", "25")
"""SQLSTATE classes that pass: connection, resources, operator intervention, object in use, transaction ended or read-only."""
CONFLICT_STATES = ("40", "XX000")
"""SQLSTATEs of transactions that were in each other's way. XX000, which is an internal error otherwise, is what a flush of late samples
gets when TimescaleDB, in a job of its own, compressed their chunk meanwhile: "tuple concurrently updated"."""
AWAY_STATES = ("08", "57P")
"""SQLSTATEs of a server that is not there: connection, and shutdown, crash or start of the server."""
CONNECTIONS = 8
PING_S = 2.0
"""How long a server may take to take a connection and answer `SELECT 1`."""
GRACE_S = 5.0
"""So much longer than the server may take for a statement we wait for its answer: a server that hangs does not end its statements."""


APPLICATION_NAME = re.compile(r"[?&]application_name=([^&#]+)")
CHECK_CLIENT_MS = 5000
"""How often a server that is busy looks whether the client of a statement is still there."""


class Database:
    """The pool of connections to one schema of one database. `url` is a libpq URL; its password never appears in messages."""

    def __init__(self, url: str, *, schema: str, timeouts: Timeouts) -> None:
        self.schema = schema
        self.timeouts = timeouts
        self._url = url
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def open(self) -> None:
        """Make the pool; it connects when it is used. Raises StorageError."""
        async with translated("connect"):
            self._pool = await asyncpg.create_pool(
                self._url,
                min_size=0,
                max_size=CONNECTIONS,
                init=_prepare,
                timeout=self.timeouts.connect_s,
                command_timeout=self.timeouts.statement_s + GRACE_S,
                server_settings=self.settings(),
            )

    async def close(self) -> None:
        """Idempotent. Connections in use are cut off when they do not end soon."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                # Not wait_for: before Python 3.12 that forgets that it was cancelled when what it waits for is done already.
                async with asyncio.timeout(self.timeouts.connect_s):
                    await pool.close()
            except TimeoutError:
                pool.terminate()

    async def ping(self) -> None:
        """Raise StoreAway when the server does not take a new connection and answer at once."""
        async with translated("answer"), asyncio.timeout(PING_S):
            connection = await asyncpg.connect(self._url, timeout=PING_S)
            try:
                await connection.execute("SELECT 1")
            finally:
                connection.terminate()

    @asynccontextmanager
    async def connection(self, what: str) -> AsyncIterator[Any]:
        """A connection; errors inside the block leave it as StorageErrors that say what was tried.

        When the task is cancelled, the server is told to cancel the statement. A connection that was left in the middle of something else
        (a transaction, an answer that did not come in time) is closed.
        """
        if self._pool is None:
            raise StorageUnavailable(f"cannot {what}: the store is closed")
        async with translated(what):
            connection = await self._acquired(self._pool)
            try:
                yield connection
            except asyncio.CancelledError:
                if connection.is_in_transaction():
                    connection.terminate()
                # This waits until the statement is cancelled, which asyncpg has asked for, or closes the connection.
                with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError, OSError):
                    await self._pool.release(connection, timeout=self.timeouts.connect_s)
                raise
            except BaseException as error:
                # One that the server has closed is out of the pool already; what it said of that is the error to tell.
                with suppress(asyncpg.InterfaceError):
                    if not isinstance(error, asyncpg.PostgresError | PromlikeError):
                        connection.terminate()
                    await self._pool.release(connection, timeout=self.timeouts.connect_s)
                raise
            await self._pool.release(connection, timeout=self.timeouts.connect_s)

    async def _acquired(self, pool: Any) -> Any:
        """A connection of the pool. Raises StorageError where the URL is wrong, for which waiting is no use."""
        try:
            return await pool.acquire(timeout=self.timeouts.connect_s + self.timeouts.statement_s)
        except asyncpg.ClientConfigurationError as error:
            raise StorageError(f"--storage.url cannot be used: {error}") from error
        except ValueError:
            # The text of this error has a part of the URL, which may be one of the password.
            raise StorageError(
                "--storage.url cannot be used: a port is no number, or a host in brackets no address;"
                " '/', '@', ':', '[' and ']' in a password are %2F, %40, %3A, %5B, %5D"
            ) from None

    @asynccontextmanager
    async def transaction(self, what: str, *, isolation: str = "read_committed", readonly: bool = False) -> AsyncIterator[Any]:
        """A connection inside a transaction that is committed at the end of the block. When the block raises, it is rolled back, or the
        connection closed, see `connection`.
        """
        async with self.connection(what) as connection:
            transaction = connection.transaction(isolation=isolation, readonly=readonly)
            await transaction.start()
            try:
                yield connection
            except (asyncpg.PostgresError, PromlikeError):
                # The error of the block is the one to tell; a connection that is gone has rolled back by itself.
                with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    if not connection.is_closed():
                        await transaction.rollback()
                raise
            except asyncio.CancelledError:
                if readonly:
                    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError, OSError):
                        await asyncio.wait_for(transaction.rollback(), self.timeouts.connect_s)
                raise
            await transaction.commit()

    def settings(self) -> dict[str, str]:
        """Settings of a session, which survive the pool's reset. The last ones let the server notice when this process is gone."""
        quoted = quote_name(self.schema)
        named = APPLICATION_NAME.search(self._url)  # not urlsplit, which some wrong URLs make fail before anything can be said of them
        return {
            "application_name": unquote_plus(named[1]) if named else "promlike",
            "search_path": f"{quoted}, public",
            # What our statements, and answers to SQL, rely on; a role or a database may be set otherwise.
            "timezone": "UTC",
            "datestyle": "ISO",
            "extra_float_digits": "1",
            "standard_conforming_strings": "on",
            "quote_all_identifiers": "off",
            "default_transaction_isolation": "read committed",
            "statement_timeout": str(int(self.timeouts.statement_s * 1000)),
            "lock_timeout": str(int(self.timeouts.lock_s * 1000)),
            "idle_in_transaction_session_timeout": str(int(self.timeouts.statement_s * 1000)),
            "client_connection_check_interval": str(CHECK_CLIENT_MS),
            "tcp_keepalives_idle": "30",
            "tcp_keepalives_interval": "10",
            "tcp_keepalives_count": "3",
        }


def quote_name(name: str) -> str:
    """A name as SQL takes it, whatever it contains."""
    return '"' + name.replace('"', '""') + '"'


@asynccontextmanager
async def translated(what: str) -> AsyncIterator[None]:
    """Turn driver errors into ours, by SQLSTATE."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise _told(error, what) from error
    except TimeoutError as error:
        raise StoreAway(f"the database did not answer in time to {what}") from error
    except (asyncpg.InterfaceError, OSError) as error:
        # A transaction that cannot be ended hides what the server said when it closed the connection.
        if isinstance(error.__context__, asyncpg.PostgresError):
            raise _told(error.__context__, what) from error
        raise StoreAway(f"the database cannot be reached to {what}: {error}") from error


async def is_alone(connection: Any, what: str, schema: str) -> bool:
    """Is this the only daemon in the database to do so from now on, until the connection goes back to the pool, or is gone?"""
    alone: bool = await connection.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", f"promlike {what} {schema}")
    return alone


def kind_of(state: str) -> type[StorageError]:
    """Our error for an SQLSTATE."""
    if state.startswith(AWAY_STATES):
        return StoreAway
    if state.startswith(CONFLICT_STATES):
        return StorageConflict
    return StorageUnavailable if state.startswith(UNAVAILABLE_CLASSES) else StorageError


def _told(error: asyncpg.PostgresError, what: str) -> StorageError:
    return kind_of(error.sqlstate or "")(f"the database failed to {what}: {error.sqlstate} {error}")


def rows_of(status: str) -> int:
    """How many rows a statement was about, by what the server says when it is done."""
    return int(status.rpartition(" ")[2])


async def _prepare(connection: Any) -> None:
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
