"""People's SQL on PostgreSQL, answered by COPY as CSV, which Arrow reads.

What keeps a statement from doing anything but read with the rights of the role `promlike_reader`:

- a transaction that is READ ONLY and always rolled back;
- one statement: the server takes no two in a message of the extended protocol, which every text passes first;
- a function that runs it, temporary and of the role's own: SECURITY DEFINER. In there, PostgreSQL lets nothing set `role` or
  `session_authorization`, so no `set_config` leads back to the rights that this process has. SET ROLE alone would not hold anybody.
"""

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no type information
from pyarrow import csv

from promlike.errors import BadRequest, PromlikeError, QueryError, QueryTimeout, StorageUnavailable, StoreAway
from promlike.storage.options import Timeouts
from promlike.storage.sql import SqlColumn, SqlRows, Statement, TextKind, read_statement
from promlike.storage.timescale.connection import AWAY_STATES
from promlike.storage.timescale.reader import READER

CONNECTIONS = 4
"""Statements that run at once, beside the connections of everything else."""
BYTES_AT_ONCE = 2 << 20
"""So much of an answer is made a batch."""
GRACE_S = 1.0
"""So much longer than the server may take we wait before we cancel a statement."""

QUERIES = ("select", "with", "values", "table")
CANCELED = "57014"
REFUSED_CLASSES = ("0A", "25", "42")
"""SQLSTATE classes of what cannot be run at all: not supported, in a transaction that reads, wrong syntax or names."""
NO_RIGHT = "42501"

_FUNCTION = """
CREATE FUNCTION pg_temp.{name}(statement text) RETURNS SETOF record LANGUAGE plpgsql {volatility} SECURITY DEFINER
AS $$ BEGIN RETURN QUERY EXECUTE statement; END $$
"""
FUNCTIONS = (
    _FUNCTION.format(name="promlike_answer", volatility="STABLE") + ";" + _FUNCTION.format(name="promlike_explain", volatility="VOLATILE")
)
"""What is not volatile may run nothing but queries; EXPLAIN does not count as one."""

_TYPES = """
SELECT oid, format_type(oid, NULL) AS name, typtype = 'c' OR typcategory = 'A' OR oid = 'record'::regtype AS nested
FROM pg_type WHERE oid = ANY($1::oid[])
"""

_ARROW = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
}
_TEXTS = {"text": TextKind.PLAIN, "varchar": TextKind.PLAIN, "numeric": TextKind.NUMBER, "json": TextKind.JSON, "jsonb": TextKind.JSON}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A column on its way: what it is, the type PostgreSQL gives it to us in, its type in Arrow, and the cast that makes one the other."""

    column: SqlColumn
    sent_as: str
    arrow: pa.DataType
    cast: str


class SqlConnections:
    """Connections for statements, apart from those for samples; made when the first one is asked. `close` is idempotent."""

    def __init__(self, url: str, *, settings: dict[str, str], timeouts: Timeouts) -> None:
        self._url = url
        self._settings = settings
        self._timeouts = timeouts
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    @asynccontextmanager
    async def answer(self, text: str, limit: int, seconds: float) -> AsyncIterator[SqlRows]:
        """See `Store.sql`."""
        statement = read_statement(text)
        columns: asyncio.Future[Sequence[_Column]] = asyncio.get_running_loop().create_future()
        made: asyncio.Queue[pa.RecordBatch] = asyncio.Queue(1)
        asking = asyncio.ensure_future(self._ask(statement, limit, seconds, columns, made))

        async def batches() -> AsyncIterator[pa.RecordBatch]:
            while not asking.done() or not made.empty():
                coming = asyncio.ensure_future(made.get())
                try:
                    await asyncio.wait((coming, asking), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not coming.done():
                        coming.cancel()
                if coming.done() and not coming.cancelled():
                    yield coming.result()
            await asking

        try:
            await asyncio.wait((columns, asking), return_when=asyncio.FIRST_COMPLETED)
            if not columns.done():
                await asking
            found = columns.result()
            yield SqlRows(columns=[each.column for each in found], types=[each.arrow for each in found], batches=batches())
        finally:
            asking.cancel()
            await asyncio.wait((asking,), timeout=self._timeouts.connect_s)
            if asking.done() and not asking.cancelled():
                asking.exception()

    async def _ask(
        self,
        statement: Statement,
        limit: int,
        seconds: float,
        columns: "asyncio.Future[Sequence[_Column]]",
        made: "asyncio.Queue[pa.RecordBatch]",
    ) -> None:
        async with self._reading(seconds) as connection:
            found = await _described(connection, statement)
            columns.set_result(found)
            maker = _BatchMaker([each.arrow for each in found], made)
            await connection.copy_from_query(_asked(statement, found, limit), output=maker.receive, format="csv")
            await maker.flush()

    @asynccontextmanager
    async def _reading(self, seconds: float) -> AsyncIterator[Any]:
        """A connection in a transaction that can only read, as the role, and whose errors are ours."""
        pool = await self._opened()
        try:
            connection = await pool.acquire(timeout=self._timeouts.connect_s)
        except (asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise StoreAway(f"the database cannot be reached to answer SQL: {error}") from error
        except asyncpg.PostgresError as error:
            raise StorageUnavailable(f"the database takes no connection for SQL: {error}") from error
        transaction = connection.transaction(readonly=True)
        try:
            await transaction.start()
            await connection.execute(f"SET LOCAL ROLE {READER}; SET LOCAL statement_timeout = {max(int(seconds * 1000), 1)}")
            yield connection
        except asyncpg.PostgresError as error:
            raise _blame(error) from error
        except (asyncpg.InterfaceError, OSError) as error:
            raise StoreAway(f"the database went away while it answered: {error}") from error
        finally:
            await self._give_back(pool, connection, transaction)

    async def _give_back(self, pool: Any, connection: Any, transaction: Any) -> None:
        """Roll back. A connection that cannot, because its server hangs or it is amid an answer that nobody reads any more, is closed; the
        server notices that when it writes, or looks after its client.
        """
        try:
            async with asyncio.timeout(GRACE_S):
                await transaction.rollback()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError):
            with suppress(asyncpg.InterfaceError):  # it has been given back already, because it was lost
                connection.terminate()
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            await pool.release(connection, timeout=self._timeouts.connect_s)

    async def _opened(self) -> Any:
        if self._pool is None:
            self._pool = asyncpg.create_pool(
                self._url, min_size=0, max_size=CONNECTIONS, init=_prepare, timeout=self._timeouts.connect_s, server_settings=self._settings
            )
        return await self._pool


async def _prepare(connection: Any) -> None:
    """Make the functions that run statements, in a new session."""
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL ROLE {READER}; {FUNCTIONS}")
    except asyncpg.PostgresError as error:
        raise StorageUnavailable(
            f"SQL is answered with the rights of the role {READER}, which cannot be used: {error}. promlike's user has to be a member of it"
        ) from error


async def _described(connection: Any, statement: Statement) -> list[_Column]:
    """The columns of the answer. Raises BadRequest when the text is not one statement, or not one that has any."""
    try:
        attributes = (await connection.prepare(statement.text)).get_attributes()
    except asyncpg.PostgresError as error:
        raise _blame(error, statement.text) from error
    if not statement.is_explain and statement.word not in QUERIES:
        raise BadRequest(f"{statement.word.upper()} is no statement that only reads, as SELECT, WITH, VALUES, TABLE and EXPLAIN are")
    if not attributes:
        raise BadRequest("the statement has no columns to answer with")
    types = {row["oid"]: row for row in await connection.fetch(_TYPES, [each.type.oid for each in attributes])}
    return [_column(each.name, each.type, types[each.type.oid], statement) for each in attributes]


def _column(name: str, kind: Any, known: Any, statement: Statement) -> _Column:
    is_builtin = kind.schema == "pg_catalog"
    arrow = _ARROW.get(kind.name) if is_builtin else None
    texts = _TEXTS.get(kind.name) if is_builtin else None
    if arrow is not None or texts is not None or statement.is_explain:
        sent_as, cast = known["name"], f"::{known['name']}"
    elif known["nested"]:
        sent_as, cast, texts = "json", "", TextKind.JSON
    else:
        sent_as, cast = "text", "::text"
    column = SqlColumn(name=name, type=known["name"], texts=texts or TextKind.PLAIN)
    return _Column(column=column, sent_as=sent_as, arrow=arrow or pa.string(), cast=cast)


def _asked(statement: Statement, columns: Sequence[_Column], limit: int) -> str:
    """What is copied. The text is known to be one whole statement, so the parentheses around it are a pair; it goes as a literal."""
    function, text = "promlike_explain", statement.text
    if not statement.is_explain:
        function = "promlike_answer"
        shown = ", ".join(f"c{i}{each.cast}" if each.cast else f"to_json(c{i})" for i, each in enumerate(columns))
        names = ", ".join(f"c{i}" for i in range(len(columns)))
        text = f"SELECT {shown} FROM (\n{statement.text}\n) AS answer ({names}) LIMIT {limit}"
    literal = "'" + text.replace("'", "''") + "'"
    types = ", ".join(f"c{i} {each.sent_as}" for i, each in enumerate(columns))
    return f"SELECT * FROM pg_temp.{function}({literal}) AS answer ({types}) LIMIT {limit}"


class _BatchMaker:
    """Collects what COPY sends, which always ends with a whole row, and makes batches of it."""

    def __init__(self, types: Sequence[pa.DataType], made: "asyncio.Queue[pa.RecordBatch]") -> None:
        self._types = types
        self._made = made
        self._parts: list[bytes] = []
        self._size = 0

    async def receive(self, data: bytes) -> None:
        self._parts.append(bytes(data))
        self._size += len(data)
        if self._size >= BYTES_AT_ONCE:
            await self.flush()

    async def flush(self) -> None:
        if self._parts:
            data = b"".join(self._parts)
            self._parts, self._size = [], 0
            await self._made.put(await asyncio.to_thread(partial(read_csv, data, self._types)))


def read_csv(data: bytes, types: Sequence[pa.DataType]) -> pa.RecordBatch:
    """Rows as COPY writes them, NULL being nothing and an empty text two quotes. Raises QueryError for what Arrow has no value for."""
    names = [f"c{i}" for i in range(len(types))]
    try:
        table = csv.read_csv(
            io.BytesIO(data),
            read_options=csv.ReadOptions(column_names=names, block_size=len(data) + 1, use_threads=False),
            parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(
                column_types=dict(zip(names, types, strict=True)),
                null_values=[""],
                true_values=["t"],
                false_values=["f"],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowException as error:
        raise QueryError(f"the answer has a value that cannot be given in the type of its column, cast that to text: {error}") from error
    return table.combine_chunks().to_batches()[0]


def _blame(error: asyncpg.PostgresError, text: str = "") -> PromlikeError:
    """Our error for one of the database's. `text`: the statement that it was reading, in which it may say a place."""
    state = error.sqlstate or ""
    if state.startswith(AWAY_STATES):
        return StoreAway(f"the database cannot answer now: {state} {error}")
    if state == CANCELED:
        return QueryTimeout("query timed out in SQL execution")
    message = f"{error.args[0]} (SQLSTATE {state})"
    if text and (position := getattr(error, "position", None)):
        before = text[: int(position) - 1]
        message = f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}: {message}"
    more = [more for name in ("detail", "hint") if (more := getattr(error, name, None))]
    is_bad = text or (state.startswith(REFUSED_CLASSES) and state != NO_RIGHT)
    return (BadRequest if is_bad else QueryError)(". ".join([message, *more]))
