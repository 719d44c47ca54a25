"""People's SQL on DuckDB: read only, in threads of its own, streamed.

What keeps a statement from doing anything but read, each enough for most of it:

- the database is opened without access to files, networks and extensions (`enable_external_access`, in `store.py`);
- one statement, which the parser says is a SELECT, or an EXPLAIN of one;
- in a transaction that is read-only;
- without functions that change the state of the process although they stand in a SELECT: of table functions only those are taken that
  are known to be harmless, of others none that DuckDB itself says has side effects.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeVar

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no type information

from promlike.errors import BadRequest, QueryError, StorageError, StorageUnavailable, TooMuchMemory
from promlike.storage.duckdb.interruptible import Interruptible
from promlike.storage.sql import ROWS_AT_ONCE, SqlColumn, SqlRows, Statement, TextKind, read_statement

T = TypeVar("T")

THREADS = 2
"""Statements that run at once; DuckDB's own threads work for all of them."""

TABLE_FUNCTIONS = frozenset(
    "range generate_series repeat repeat_row unnest json_each json_tree histogram histogram_values pg_timezone_names"
    " duckdb_columns duckdb_functions duckdb_keywords duckdb_schemas duckdb_tables duckdb_types duckdb_views".split()
)
"""The built-in ones that may be called."""
VOLATILE = frozenset(("random", "uuid", "uuidv4", "uuidv7", "gen_random_uuid"))
"""Functions that DuckDB counts among those with side effects, and that have none but another answer each time."""
INTERNAL = frozenset(("combine", "finalize", "to_aggregate_state", "variant_bytes_to_variant"))
"""Functions that take bytes for what DuckDB itself has in memory."""

_SPECIAL = """
SELECT DISTINCT lower(function_name) FROM duckdb_functions()
WHERE function_type = 'table' OR (function_type = 'table_macro' AND internal) OR has_side_effects
"""
_LINE = re.compile(r"^LINE (\d+):", re.MULTILINE)
_CALLED = re.compile(r'"function_name":"((?:[^"\\]|\\.)*)"')

_AS_THEY_ARE = frozenset(
    "boolean tinyint smallint integer bigint utinyint usmallint uinteger ubigint hugeint uhugeint float double decimal varchar date"
    " timestamp timestamp_s timestamp_ms timestamp_ns".split()
) | {"timestamp with time zone"}
_AS_NUMBERS = frozenset(("bignum", "varint"))
_AS_JSON = frozenset(("list", "array", "struct", "map", "union"))


class SqlThreads:
    """The threads that statements run in. `opened` gives the store's connection; `close` waits for what runs, idempotent."""

    def __init__(self, opened: Callable[[], duckdb.DuckDBPyConnection]) -> None:
        self._opened = opened
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="duckdb-sql")
        self._special: frozenset[str] = frozenset()

    def close(self) -> None:
        self._executor.shutdown(wait=True)

    @asynccontextmanager
    async def answer(self, text: str, limit: int) -> AsyncIterator[SqlRows]:
        """See `Store.sql`. When the task is cancelled, the statement is interrupted; its cursor is closed once its thread has noticed."""
        reading = Reading(self, read_statement(text), limit)
        running: list[Future[Any]] = []

        async def do(work: Callable[[], T]) -> T:
            running[:] = [self._executor.submit(work)]
            done: T = await asyncio.wrap_future(running[0])
            return done

        async def batches() -> AsyncIterator[pa.RecordBatch]:
            while (batch := await do(reading.next_batch)) is not None:
                yield batch

        try:
            columns = await do(reading.open)
            yield SqlRows(columns=columns, types=reading.types, batches=batches())
        finally:
            if all(future.done() for future in running):
                await asyncio.to_thread(reading.close)  # not in ours, which other statements may have taken
            else:
                reading.interrupt()
                running[0].add_done_callback(lambda _: reading.close())

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A new one."""
        return self._opened().cursor()

    def special(self, cursor: duckdb.DuckDBPyConnection) -> frozenset[str]:
        """Names of the functions that are looked at twice; asked for once, which takes longer than most statements."""
        if not self._special:
            self._special = frozenset(name for (name,) in cursor.execute(_SPECIAL).fetchall()) | INTERNAL
        return self._special


class Reading:
    """One statement on a cursor of its own: `open`, `next_batch` until None, `close`; each in some thread, one after the other."""

    def __init__(self, threads: SqlThreads, statement: Statement, limit: int) -> None:
        self._threads = threads
        self._statement = statement
        self._limit = limit
        self._stack = ExitStack()
        self._interruptible = Interruptible()
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self.types: Sequence[pa.DataType] = ()
        """Of the columns, once it is open."""

    def open(self) -> Sequence[SqlColumn]:
        """Check the statement and start it; its columns. Raises BadRequest, QueryError, StorageError."""
        with _blamed():
            cursor = self._stack.enter_context(self._threads.cursor())
            self._stack.enter_context(self._interruptible.reading(cursor))
            cursor.execute("SET enable_progress_bar = false")  # nobody looks at the output of a server
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            check(cursor, self._statement, self._threads.special(cursor))
            if self._statement.is_explain:
                return self._explain(cursor)
            asked = cursor.sql(self._statement.text)
            if asked is None:
                raise BadRequest("the statement has no columns to answer with")
            columns, shown = _columns(asked.columns, asked.types)
            names = ", ".join(f"c{i}" for i in range(len(columns)))
        with _blamed(lines_before=1):
            wrapped = f"SELECT {', '.join(shown)} FROM (\n{self._statement.text}\n) AS answer({names}) LIMIT {self._limit}"
            # A relation, not `execute`: only that is streamed.
            reader = cursor.sql(wrapped).to_arrow_reader(ROWS_AT_ONCE)
            self._batches, self.types = iter(reader), reader.schema.types
            return columns

    def next_batch(self) -> pa.RecordBatch | None:
        """The next rows, None after the last."""
        with _blamed(lines_before=1):
            return next(self._batches, None)

    def interrupt(self) -> None:
        """From the event loop: stop what a thread does for this reading."""
        self._interruptible.interrupt()

    def close(self) -> None:
        """Give up the cursor, and with it the transaction; idempotent."""
        self._batches = iter(())
        self._stack.close()

    def _explain(self, cursor: duckdb.DuckDBPyConnection) -> Sequence[SqlColumn]:
        rows = cursor.execute(self._statement.text).fetchall()[: self._limit]
        names = ("explain_key", "explain_value")
        columns = [pa.array([row[i] for row in rows], pa.string()) for i in range(len(names))]
        self._batches, self.types = iter([pa.RecordBatch.from_arrays(columns, list(names))]), [pa.string()] * len(names)
        return [SqlColumn(name=name, type="VARCHAR") for name in names]


def check(cursor: duckdb.DuckDBPyConnection, statement: Statement, special: frozenset[str]) -> None:
    """Raise BadRequest for what is not one statement that reads, and for those of the special functions that may not be called."""
    found = cursor.extract_statements(statement.text)
    if len(found) != 1:
        raise BadRequest(f"{len(found)} statements, only one may be asked at a time")
    if statement.is_explain:
        found = cursor.extract_statements(statement.body)
    if len(found) != 1 or found[0].type != duckdb.StatementType.SELECT:
        raise BadRequest(
            f"{statement.word.upper()} is no statement that only reads, as SELECT, WITH, VALUES, FROM, DESCRIBE and EXPLAIN are"
        )
    (tree,) = cursor.execute("SELECT CAST(json_serialize_sql($1) AS VARCHAR)", [statement.body]).fetchall()[0]
    called = {name.lower() for name in _CALLED.findall(tree)}
    if forbidden := sorted(called & special - TABLE_FUNCTIONS - VOLATILE):
        raise BadRequest(f"the function {forbidden[0]} may not be called: it does more than answer a question")


def _columns(names: Sequence[str], types: Sequence[object]) -> tuple[list[SqlColumn], list[str]]:
    """What the columns are, and the expressions that bring column i, called `c<i>`, into a type that answers have."""
    columns, shown = [], []
    for i, (name, kind) in enumerate(zip(names, types, strict=True)):
        identifier, written = str(getattr(kind, "id")), str(kind).strip('"')  # noqa: B009 - duckdb's stubs differ between its versions
        texts, expression = TextKind.PLAIN, f"CAST(c{i} AS VARCHAR)"
        if written == "JSON":
            texts = TextKind.JSON
        elif identifier in _AS_THEY_ARE:
            expression = f"c{i}"
        elif identifier in _AS_NUMBERS:
            texts = TextKind.NUMBER
        elif identifier in _AS_JSON:
            texts, expression = TextKind.JSON, f"CAST(to_json(c{i}) AS VARCHAR)"
        columns.append(SqlColumn(name=name, type=written, texts=texts))
        shown.append(f"{expression} AS c{i}")
    return columns, shown


@contextmanager
def _blamed(lines_before: int = 0) -> Iterator[None]:
    """Raise BadRequest for what is wrong with the statement, QueryError for what happened while it ran. So many lines of what DuckDB was
    given stand before the statement; it says the place of an error in lines.
    """

    def told(error: Exception) -> str:
        return _LINE.sub(lambda found: f"LINE {int(found[1]) - lines_before}:", str(error))

    try:
        yield
    except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException, duckdb.PermissionException) as error:
        raise BadRequest(told(error)) from error
    except duckdb.TransactionException as error:
        raise BadRequest(f"SQL may only read here: {told(error)}") from error
    except duckdb.OutOfMemoryException as error:
        raise TooMuchMemory(told(error)) from error
    except (duckdb.IOException, duckdb.FatalException) as error:
        raise StorageUnavailable(f"DuckDB cannot answer now: {told(error)}") from error
    except duckdb.InternalException as error:
        raise StorageError(f"DuckDB cannot answer: {told(error)}") from error
    except (duckdb.Error, pa.ArrowException, OSError) as error:  # the reader of batches raises OSError for any error of DuckDB's
        raise QueryError(told(error)) from error
