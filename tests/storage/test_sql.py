"""SQL that people ask through `Store.sql`: what it answers, and all that it must not be able to do; in every kind of store."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no type information
import pytest

from promlike.errors import BadRequest, PromlikeError, QueryError, QueryTimeout, StorageUnavailable, StoreAway, TooMuchMemory
from promlike.storage.duckdb.sql import TABLE_FUNCTIONS, SqlThreads
from promlike.storage.duckdb.store import DuckDBStore
from promlike.storage.sql import TextKind, read_statement
from promlike.storage.store import Store
from promlike.storage.timescale.store import TimescaleStore
from tests.storage.conftest import new_database
from tests.storage.metric_view_suite import refresh
from tests.storage.postgres import Postgres, postgresql
from tests.storage.store_suite import START_MS, batch, records

NAN = float("nan")
ENDLESS = "SELECT count(*) FROM generate_series(1, 1000000) AS a(x), generate_series(1, 1000000) AS b(y) WHERE x + y = 0"
"""Hours of work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A store with three samples, `url` being that of its database where it is one of PostgreSQL."""

    store: Store
    kind: str
    url: str = ""

    async def ask(self, text: str, limit: int = 100_000, seconds: float = 60.0) -> pa.Table:
        async with self.store.sql(text, limit, seconds) as answer:
            batches = [batch async for batch in answer.batches]
            for one in batches:
                assert one.schema.types == list(answer.types)
            names = [f"{i}" for i in range(len(answer.columns))]
            schema = pa.schema(list(zip(names, answer.types, strict=True)))
            return pa.Table.from_batches([pa.RecordBatch.from_arrays(one.columns, schema=schema) for one in batches], schema)

    async def rows(self, text: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in (await self.ask(text)).to_pylist()]

    async def state(self) -> list[tuple[Any, ...]]:
        """What no statement may change."""
        return await self.rows("SELECT series_id, time, value FROM metric.up ORDER BY 1, 2")


@pytest.fixture(params=["duckdb", "timescaledb", "plain"])
async def asked(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Asked]:
    if request.param == "duckdb":
        found = Asked(store=DuckDBStore(tmp_path / "promlike.duckdb"), kind=request.param)
    else:
        url = await new_database(request.getfixturevalue("timescale_server" if request.param == "timescaledb" else "plain_server"))
        found = Asked(store=TimescaleStore(url, folder=tmp_path), kind=request.param, url=url)
    await fill(found.store)
    yield found
    await found.store.close()


async def fill(store: Store) -> None:
    await store.open()
    await store.write(batch({0: [(START_MS, 1.0), (START_MS + 1, 2.5)], 1: [(START_MS, 3.0)]}, series=records("a", "b")))
    await refresh(store)


async def test_views_and_functions_are_asked(asked: Asked) -> None:
    table = await asked.ask("SELECT time, instance, value, labels FROM metric.up ORDER BY instance, time")
    assert table.schema.types == [pa.timestamp("us", "UTC"), pa.string(), pa.float64(), pa.string()]
    assert table["1"].to_pylist() == ["a", "a", "b"]
    assert table["2"].to_pylist() == [1.0, 2.5, 3.0]
    assert table["0"].cast(pa.int64()).to_pylist() == [START_MS * 1000, START_MS * 1000 + 1000, START_MS * 1000]
    assert '"instance"' in table["3"][0].as_py()
    last = "SELECT labels->>'instance', value FROM promlike.metric_last('up', TIMESTAMPTZ '2023-11-14 22:14:00+00') ORDER BY 1"
    assert await asked.rows(last) == [("a", 2.5), ("b", 3.0)]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("SELECT 1 AS a, 2 AS a", [(1, 2)]),
        ("SELECT CAST(NULL AS integer), NULL", [(None, None)]),
        ("SELECT NULL", [(None,)]),
        ("SELECT 1 WHERE false", []),
        ("VALUES (1, 'a'), (2, NULL), (3, '')", [(1, "a"), (2, None), (3, "")]),
        ("SELECT CAST(1 AS smallint), CAST(-5 AS bigint), true, false", [(1, -5, True, False)]),
        ("SELECT 'a\"b,c', 'x\ny', 'ä\u2028', 'it''s', '\\N', 'NULL'", [('a"b,c', "x\ny", "ä\u2028", "it's", "\\N", "NULL")]),
        ("SELECT CAST('Infinity' AS double precision), CAST('-Infinity' AS real), 0.5", None),
        ("WITH w AS (SELECT 1 AS x) SELECT x FROM w UNION ALL SELECT 2 ORDER BY 1", [(1,), (2,)]),
        ("TABLE metric.up", None),
        ("  /* what */ -- ever\n (SELECT 1) ;; ", [(1,)]),
        ("SELECT 1 -- no end", [(1,)]),
        ("SELECT x FROM generate_series(1, 3) AS g(x) ORDER BY x DESC", [(3,), (2,), (1,)]),
        ("SELECT CAST(INTERVAL '1 day' AS varchar)", [("1 day",)]),
        ("SELECT INTERVAL '1 day'", [("1 day",)]),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
async def test_statements_that_read(asked: Asked, text: str, rows: list[tuple[Any, ...]] | None) -> None:
    found = await asked.rows(text)
    assert found if rows is None else found == rows


async def test_what_nests_becomes_json_and_what_arrow_has_not_text(asked: Asked) -> None:
    text = "SELECT labels, columns, CAST(sum(1.5) AS numeric(10, 2)), CAST('a' AS uuid) FROM promlike.metric_view WHERE false GROUP BY 1, 2"
    async with asked.store.sql(text.replace("'a'", "'00000000-0000-0000-0000-000000000000'"), 10, 60) as answer:
        columns = answer.columns
    assert [column.texts for column in columns][:2] == [TextKind.JSON, TextKind.JSON]
    assert [column.type.lower() for column in columns][0::3] == [columns[0].type.lower(), "uuid"]
    assert [row[0].replace(" ", "") for row in await asked.rows("SELECT labels FROM promlike.metric_view")] == ['["instance"]']


async def test_explain(asked: Asked) -> None:
    for text in ("EXPLAIN SELECT * FROM metric.up", "explain analyze SELECT * FROM metric.up", "EXPLAIN (FORMAT json) SELECT 1"):
        assert await asked.rows(text)
    with pytest.raises(PromlikeError):
        await asked.ask("EXPLAIN ANALYZE INSERT INTO promlike.metadata VALUES ('a', 'b', 'c', 'd')")


async def test_no_more_rows_than_the_limit(asked: Asked) -> None:
    text = "SELECT x FROM generate_series(1, 100000) AS g(x) ORDER BY x"
    assert len(await asked.ask(text, limit=7)) == 7
    assert len(await asked.ask(text, limit=50_000)) == 50_000
    assert (await asked.ask(text))["0"].to_pylist() == list(range(1, 100_001))


WRITES = [
    "INSERT INTO promlike.samples VALUES (1, now(), 1)",
    "INSERT INTO promlike.metadata VALUES ('a', 'b', 'c', 'd') RETURNING *",
    "UPDATE promlike.series SET metric = 'x'",
    "DELETE FROM promlike.samples",
    "DELETE FROM promlike.samples RETURNING *",
    "TRUNCATE promlike.samples",
    "WITH gone AS (DELETE FROM promlike.samples RETURNING *) SELECT * FROM gone",
    "SELECT * FROM (DELETE FROM promlike.samples RETURNING *) AS gone",
    "CREATE TABLE evil (a integer)",
    "CREATE TEMP TABLE evil (a integer)",
    "CREATE TABLE evil AS SELECT 1",
    "SELECT 1 INTO evil",
    "DROP TABLE promlike.samples",
    "DROP VIEW metric.up",
    "ALTER TABLE promlike.series RENAME TO evil",
    "CREATE SCHEMA evil",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "COMMIT; DROP TABLE promlike.samples",
    "SELECT 1; DELETE FROM promlike.samples",
    "SELECT 1) AS answer; DELETE FROM promlike.samples; SELECT * FROM (SELECT 1",
    "SELECT 1) TO PROGRAM 'touch /tmp/promlike-evil'; --",
    "SELECT '1'; COMMIT; DELETE FROM promlike.samples; --",
    "COPY promlike.samples TO '/tmp/promlike-evil'",
    "COPY (SELECT 1) TO PROGRAM 'touch /tmp/promlike-evil'",
    "COPY promlike.series FROM '/etc/passwd'",
    "SET TimeZone = 'Asia/Tokyo'",
    "RESET ALL",
    "PREPARE evil AS SELECT 1",
    "EXECUTE evil",
    "VACUUM",
    "CHECKPOINT",
    "LOAD 'evil'",
    "EXPLAIN ANALYZE DELETE FROM promlike.samples",
    "EXPLAIN ANALYZE CREATE TABLE evil AS SELECT 1",
    "",
    ";",
    "-- nothing",
    "/* nothing */",
    "SELECT 1 \0",
    "SELECT",
    "SELECT $1",
]


def nothing_was_written() -> bool:
    return not Path("/tmp/promlike-evil").exists()


async def refuses(asked: Asked, texts: Sequence[str]) -> None:
    """All of them, each before it did anything."""
    before = await asked.state()
    for text in texts:
        try:
            found = await asked.ask(text)
        except (BadRequest, QueryError):
            assert nothing_was_written(), text
            assert await asked.state() == before, text
        else:
            pytest.fail(f"{text!r} is answered: {found.to_pylist()}")


async def test_what_does_more_than_read_is_refused(asked: Asked) -> None:
    await refuses(asked, WRITES)


DUCKDB = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM READ_TEXT('/etc/passwd')",
    "SELECT * FROM system.main.read_blob('/etc/passwd')",
    "SELECT * FROM read_parquet('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    'SELECT * FROM "/etc/passwd.csv"',
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM query_table('/etc/passwd')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT (SELECT max(content) FROM read_text('/etc/passwd'))",
    "WITH a AS (FROM read_text('/etc/passwd')) SELECT * FROM a",
    "SELECT list_transform([1], lambda x: write_log('x'))",
    "ATTACH '/tmp/promlike-evil' AS evil",
    "ATTACH ':memory:' AS evil",
    "DETACH promlike",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA memory_limit = '1GB'",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "EXPORT DATABASE '/tmp/promlike-evil'",
    "EXPLAIN ANALYZE SET memory_limit = '1GB'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/promlike-evil'",
    "SELECT * FROM force_checkpoint()",
    "SELECT * FROM checkpoint()",
    "SELECT * FROM enable_logging()",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM python_map_function(1)",
    "SELECT nextval('evil')",
    "SELECT setseed(0.5)",
    "SELECT finalize('a')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SET memory_limit = '1GB'",
    "USE metric",
    "CREATE MACRO evil(a) AS a",
    "PIVOT metric.up ON instance USING sum(value)",
]


async def test_duckdb_has_no_way_out(tmp_path: Path) -> None:
    asked = Asked(store=DuckDBStore(tmp_path / "promlike.duckdb"), kind="duckdb")
    await fill(asked.store)
    settings = "SELECT current_setting('memory_limit'), current_setting('TimeZone'), current_setting('enable_external_access')"
    before = await asked.rows(settings)
    await refuses(asked, DUCKDB)
    assert await asked.rows(settings) == before
    await asked.store.close()


async def test_every_function_of_duckdb_that_may_not_be_called_is_refused(tmp_path: Path) -> None:
    """Whatever this version of it has."""
    store = DuckDBStore(tmp_path / "promlike.duckdb")
    await fill(store)
    known = (
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'table' AND function_name NOT LIKE '%!%' ORDER BY 1"
    )
    asked = Asked(store=store, kind="duckdb")
    names = [name for (name,) in await asked.rows(known)]
    assert "read_csv" in names
    for name in (name for name in names if name not in TABLE_FUNCTIONS):
        with pytest.raises(BadRequest, match="may not be called"):
            await asked.ask(f'SELECT * FROM "{name}"(1)')
    await store.close()


POSTGRESQL = [
    "SELECT set_config('role', 'none', true)",
    "SELECT set_config('role', 'postgres', false)",
    "SELECT set_config('session_authorization', 'postgres', true)",
    "SELECT query_to_xml('SELECT set_config(''role'', ''none'', true)', true, true, '')",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "SELECT set_config('temp_file_limit', '-1', true)",
    "SELECT query_to_xml('DELETE FROM promlike.samples', true, true, '')",
    "SELECT query_to_xml('COPY (SELECT 1) TO PROGRAM ''touch /tmp/promlike-evil''', true, true, '')",
    "SELECT query_to_xml('SET ROLE none', true, true, '')",
    "EXPLAIN ANALYZE SELECT set_config('role', 'none', true)",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_read_binary_file('/etc/passwd')",
    "SELECT pg_ls_dir('.')",
    "SELECT lo_export(1, '/tmp/promlike-evil')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT * FROM pg_authid",
    "SELECT * FROM public.secret",
    "SELECT pg_reload_conf()",
    "SELECT pg_stat_reset()",
    "SELECT nextval('secrets')",
    "SELECT * FROM promlike.samples FOR UPDATE",
    "SET ROLE postgres",
    "RESET ROLE",
    "RESET SESSION AUTHORIZATION",
    "SET SESSION AUTHORIZATION postgres",
    "SET TRANSACTION READ WRITE",
    "SET LOCAL statement_timeout = 0",
    "SHOW ALL",
    "LISTEN evil",
    "LOCK TABLE promlike.samples",
    "DO $$ BEGIN DELETE FROM promlike.samples; END $$",
    "DECLARE evil CURSOR FOR SELECT 1",
    "FETCH ALL FROM evil",
    "CALL evil()",
    "CREATE FUNCTION evil() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "GRANT ALL ON ALL TABLES IN SCHEMA promlike TO promlike_reader",
    "$$ SELECT 1 $$",
    "SELECT 'a' /*",
]


async def test_postgresql_has_no_way_out(plain_database: str, tmp_path: Path) -> None:
    """Although this process connects as a superuser."""
    asked = Asked(store=TimescaleStore(plain_database, folder=tmp_path), kind="plain", url=plain_database)
    await fill(asked.store)
    connection = await asyncpg.connect(plain_database)
    await connection.execute("CREATE TABLE public.secret (word text); CREATE SEQUENCE secrets")
    await refuses(asked, POSTGRESQL)
    assert await asked.rows("SELECT E'\\' ; DELETE FROM promlike.samples; --'") == [("' ; DELETE FROM promlike.samples; --",)]
    assert await asked.rows("SELECT current_user, current_setting('transaction_read_only'), current_setting('is_superuser')") == [
        ("promlike_reader", "on", "off")
    ]
    await connection.close()
    await asked.store.close()


async def test_what_a_statement_sets_is_gone_with_it(plain_database: str, tmp_path: Path) -> None:
    asked = Asked(store=TimescaleStore(plain_database, folder=tmp_path), kind="plain")
    await fill(asked.store)
    await asked.rows("SELECT set_config('search_path', 'evil', false), set_config('TimeZone', 'Asia/Tokyo', false), lo_create(0)::text")
    assert await asked.rows("SELECT current_setting('TimeZone'), count(*) FROM pg_largeobject_metadata") == [("UTC", 0)]
    assert await asked.rows("SELECT count(*) FROM samples") == [(3,)]
    await asked.store.close()


@pytest.mark.parametrize(
    ("text", "duckdb", "postgresql"),
    [
        ("SELECT 1\nFROM nosuch", "Table with name nosuch does not exist", '2:6: relation "nosuch" does not exist'),
        ("SELECT 1 +", 'syntax error at or near "+"', "1:11: syntax error at end of input"),
        ("selec 1", "LINE 1: selec 1", '1:1: syntax error at or near "selec"'),
        ("SELECT 1; SELECT 2", "only one may be asked", "cannot insert multiple commands"),
        (
            "INSERT INTO promlike.metadata VALUES ('a', 'b', 'c', 'd')",
            "INSERT is no statement that only reads",
            "INSERT is no statement that only reads",
        ),
    ],
)
async def test_a_wrong_statement_is_told_in_the_words_of_the_database(asked: Asked, text: str, duckdb: str, postgresql: str) -> None:
    with pytest.raises(BadRequest) as caught:
        await asked.ask(text)
    assert (duckdb if asked.kind == "duckdb" else postgresql) in str(caught.value)


async def test_a_statement_that_fails_while_it_runs(asked: Asked) -> None:
    text = "SELECT CAST(instance AS integer) FROM metric.up"
    with pytest.raises(QueryError, match=r"'a'|\"a\"|\"b\"") as caught:
        await asked.ask(text)
    assert type(caught.value) is QueryError
    assert await asked.rows("SELECT 1") == [(1,)]


async def test_a_statement_that_fails_after_many_rows(asked: Asked) -> None:
    text = "SELECT CAST(CASE WHEN x = 300000 THEN 'x' ELSE '1' END AS integer) FROM generate_series(1, 300000) AS g(x)"
    with pytest.raises(QueryError):
        await asked.ask(text, limit=10**9)


async def works(asked: Asked) -> None:
    """Other statements are answered, as many as there are at a time."""
    assert await asyncio.gather(*(asked.rows("SELECT 1") for _ in range(8))) == [[(1,)]] * 8


async def test_a_cancelled_statement_stops(asked: Asked) -> None:
    for _ in range(3):
        asking = asyncio.ensure_future(asked.ask(ENDLESS))
        await asyncio.sleep(0.3)
        assert not asking.done()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    await asyncio.wait_for(works(asked), 20)
    if asked.url:
        connection = await asyncpg.connect(asked.url)
        running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%1000000%' AND pid <> pg_backend_pid()"
        assert await connection.fetchval(running) == 0
        await connection.close()


async def test_who_stops_reading_stops_the_statement(asked: Asked) -> None:
    for _ in range(5):
        async with asked.store.sql("SELECT x FROM generate_series(1, 500000) AS g(x)", 10**9, 60) as answer, aclosing(answer.batches):  # type: ignore[type-var]  # both are generators
            assert len(await anext(answer.batches))
    await asyncio.wait_for(works(asked), 20)


async def test_statements_do_not_keep_the_store_from_its_work(asked: Asked) -> None:
    asking = [asyncio.ensure_future(asked.ask(ENDLESS)) for _ in range(4)]
    await asyncio.sleep(0.3)
    await asyncio.wait_for(asked.store.write(batch({0: [(START_MS + 60_000, 9.0)]}, position=(1, 16))), 20)
    assert await asyncio.wait_for(asked.store.load_metadata(), 20) == []
    for each in asking:
        each.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    assert (await asked.state())[-1][-1] == 3.0
    assert 9.0 in [row[-1] for row in await asked.state()]


@pytest.mark.parametrize("text", ["SELECT pg_sleep(30)", ENDLESS])
async def test_postgresql_ends_a_statement_in_time(plain_database: str, tmp_path: Path, text: str) -> None:
    asked = Asked(store=TimescaleStore(plain_database, folder=tmp_path), kind="plain")
    await fill(asked.store)
    for statement in (text, f"SELECT set_config('statement_timeout', '0', true), ({text})::text"):
        with pytest.raises(QueryTimeout):
            await asyncio.wait_for(asked.ask(statement, seconds=0.3), 20)
    await works(asked)
    await asked.store.close()


async def test_too_much_memory_is_told_as_such(tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "promlike.duckdb", memory_limit="64MB")
    await fill(store)
    asked = Asked(store=store, kind="duckdb")
    with pytest.raises(TooMuchMemory):
        await asked.ask("SELECT len(list(x)) FROM range(50000000) AS g(x)")
    assert await asked.rows("SELECT 1") == [(1,)]
    await store.close()


async def test_numbers_in_nested_values_of_duckdb(tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "promlike.duckdb")
    await fill(store)
    async with store.sql("SELECT [1.5::double], {'a': 'x'}, MAP {'k': 2}, 1::hugeint, sum(1) FROM range(2)", 9, 9) as answer:
        texts = [column.texts for column in answer.columns]
        rows = (await anext(answer.batches)).to_pylist()[0]
    assert texts[:3] == [TextKind.JSON] * 3
    assert list(rows.values())[:3] == ["[1.5]", '{"a":"x"}', '{"k":2}']
    assert list(rows.values())[3:] == [1, 2]
    await store.close()


async def test_a_database_that_is_away_or_back(tmp_path: Path) -> None:
    with postgresql() as server:
        asked = Asked(store=TimescaleStore(await new_database(server), folder=tmp_path), kind="plain")
        await fill(asked.store)
        assert await asked.rows("SELECT 1") == [(1,)]
        server.send(signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asked.ask("SELECT 1")
        assert time.monotonic() < started + 8
        server.send(signal.SIGCONT)
        await works(asked)
        server.stop()
        for _ in range(2):
            with pytest.raises(StoreAway):
                await asked.ask("SELECT 1")
        server.start()
        for _ in range(5):  # the pool finds out about its dead connections one by one
            try:
                assert await asked.rows("SELECT 1") == [(1,)]
                break
            except StoreAway:
                pass
        else:
            pytest.fail("the database is back, SQL is not")
        await asked.store.close()


async def test_without_the_role_nothing_is_answered(plain_server: Postgres, tmp_path: Path) -> None:
    """Rather than with more rights."""
    url = await new_database(plain_server)
    connection = await asyncpg.connect(url)
    name = url.rpartition("/")[2]
    await connection.execute(f"CREATE ROLE weak_{name} LOGIN; ALTER DATABASE {name} OWNER TO weak_{name}")
    await connection.close()
    store = TimescaleStore(url.replace("postgres@", f"weak_{name}@"), folder=tmp_path)
    await store.open()
    await refresh(store)
    with pytest.raises(StorageUnavailable, match="promlike_reader"):
        await Asked(store=store, kind="plain").ask("SELECT 1")
    await store.close()


@pytest.mark.parametrize(
    ("text", "word", "body"),
    [
        ("SELECT 1", "select", "SELECT 1"),
        ("  -- a\n/* b */ ((with x", "with", "  -- a\n/* b */ ((with x"),
        ("EXPLAIN VALUES (1);", "values", "VALUES (1)"),
        ("explain analyze /* x */ select 1", "select", " /* x */ select 1"),
        ("EXPLAIN (FORMAT json, ANALYZE) select 1", "select", " select 1"),
        ("explainer", "explainer", "explainer"),
        ("'text'", "", "'text'"),
    ],
)
def test_a_statement_from_outside(text: str, word: str, body: str) -> None:
    found = read_statement(text)
    assert (found.word, found.body) == (word, body)
    assert found.is_explain == (body != text)


def test_closing_threads_twice_is_fine() -> None:
    threads = SqlThreads(lambda: pytest.fail("nobody asks"))
    threads.close()
    threads.close()
