"""The queries of docs/sql.md and of README, asked in every database; data whose answers are known beforehand."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import duckdb
import pytest

from promlike.model.labels import labels
from promlike.storage.access import Metadata
from promlike.storage.duckdb import macros
from promlike.storage.duckdb.store import DuckDBStore
from promlike.storage.store import SeriesRecord, Store
from promlike.storage.tiers import Watermark
from promlike.storage.timescale.store import TimescaleStore
from promlike.storage.timescale.version4 import functions_for_people
from tests.storage.conftest import new_database
from tests.storage.metric_view_suite import Rows, refresh
from tests.storage.store_suite import Samples, batch, tier_batch

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sql.md").read_text()
QUESTIONS = PAGE.split("## Ten questions")[1]
SQL = re.compile(r"^```sql\n(.*?)^```", re.MULTILINE | re.DOTALL)

NOW = datetime(2026, 3, 11, 12, tzinfo=UTC)
DAY = 1440
"""Samples a day: one each minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A database with the data below, and how to ask it."""

    kind: str
    asked: Any

    async def ask(self, text: str) -> Rows:
        """The rows of a statement, `now()` being NOW."""
        statement = text.replace("now()", f"TIMESTAMPTZ '{NOW.isoformat(sep=' ')}'")
        rows: Rows = await self.asked(statement)
        return rows


def minutes_ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def data() -> tuple[list[SeriesRecord], Samples]:
    """Eight days up to NOW, one sample a minute."""
    ago = list(range(8 * DAY, -1, -1))

    def requests(per_minute: int, reset: int = 8 * DAY + 1) -> dict[int, float]:
        return {k: per_minute * float(8 * DAY - k if k > reset else reset + 1 - k) for k in ago}

    def is_down(k: int) -> bool:
        return 100 <= k < 172

    values = {
        labels({"__name__": "http_requests_total", "job": "api", "instance": "a", "code": "200"}): requests(60),
        labels({"__name__": "http_requests_total", "job": "api", "instance": "a", "code": "500"}): requests(20),
        labels({"__name__": "http_requests_total", "job": "api", "instance": "b", "code": "200"}): requests(120, reset=90),
        labels({"__name__": "http_requests_total", "job": "web", "instance": "c", "code": "200"}): requests(40),
        labels({"__name__": "up", "job": "api", "instance": "a"}): dict.fromkeys(ago, 1.0),
        labels({"__name__": "up", "job": "api", "instance": "b"}): {k: 1.0 for k in ago if not 500 <= k < 530},
        labels({"__name__": "up", "job": "web", "instance": "c"}): {k: float(not is_down(k)) for k in ago},
        labels({"__name__": "up", "job": "web", "instance": "gone"}): {k: 1.0 for k in ago if k > 600},
        labels({"__name__": "node_load1", "instance": "a"}): {k: 2.0 if k < DAY else 1.0 for k in ago},
        labels({"__name__": "node_load1", "instance": "b"}): {k: float(k % DAY) for k in ago},
    }
    for le, per_minute in {"0.1": 50, "0.5": 90, "1": 99, "+Inf": 100}.items():
        bucket = labels({"__name__": "http_request_duration_seconds_bucket", "job": "api", "le": le})
        values[bucket] = requests(per_minute)
    now_ms = int(NOW.timestamp() * 1000)
    series = [SeriesRecord(ref=ref, labels=each) for ref, each in enumerate(values)]
    samples = {ref: [(now_ms - k * 60_000, value) for k, value in row.items()] for ref, row in enumerate(values.values())}
    return series, samples


SERVICE = (
    "CREATE TABLE service (job text, team text, price double precision)",
    "INSERT INTO service VALUES ('api', 'search', 10), ('web', 'shop', 100)",
)
METADATA = Metadata(metric="up", type="gauge", help="Whether it is up.")


@pytest.fixture(params=["timescaledb", "postgresql", "duckdb"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "duckdb":
        file = tmp_path / "promlike.duckdb"
        await fill(DuckDBStore(file))
        with duckdb.connect(file) as look:
            look.execute("SET TimeZone = 'UTC'")

            async def ask(text: str) -> Rows:
                return look.execute(text).fetchall()

            yield Database(kind=request.param, asked=ask)
        return
    url = await new_database(request.getfixturevalue("timescale_server" if request.param == "timescaledb" else "plain_server"))
    await fill(TimescaleStore(url, folder=tmp_path))
    connection = await asyncpg.connect(url, server_settings={"timezone": "UTC"})

    async def fetch(text: str) -> Rows:
        return [tuple(row) for row in await connection.fetch(text)]

    yield Database(kind=request.param, asked=fetch)
    await connection.close()


async def fill(store: Store) -> None:
    series, samples = data()
    await store.open()
    await store.write(batch(samples, series=series, metadata=[METADATA]))
    watermark = Watermark.at(int(NOW.timestamp() * 1000))
    await store.write_tiers(tier_batch(samples, watermark, foreign=await store.foreign_changes()))
    await refresh(store)
    await store.close()


REQUESTS_A_DAY = {"a": 80.0 * DAY, "b": 120.0 * DAY, "c": 40.0 * DAY}

ANSWERS: dict[str, list[Rows]] = {
    "1": [
        [
            ("http_request_duration_seconds_bucket", None, None, ["job", "le"]),
            ("http_requests_total", None, None, ["code", "instance", "job"]),
            ("node_load1", None, None, ["instance"]),
            ("up", "gauge", "Whether it is up.", ["instance", "job"]),
        ]
    ],
    "2": [[("api", "a", 1.0), ("api", "b", 1.0), ("web", "c", 1.0)]],
    "3": [[(minutes_ago(minutes), job, rate) for minutes in (60, 40, 20) for job, rate in (("api", 200 / 60), ("web", 40 / 60))]],
    "4": [[("b", REQUESTS_A_DAY["b"]), ("a", REQUESTS_A_DAY["a"]), ("c", REQUESTS_A_DAY["c"])]],
    "5": [[("a", 2.0, 2.0, 2.0), ("b", 719.5, 1424.61, 1439.0)]],
    "6": [[("search", 200 * DAY * 10 / 1e6), ("shop", 40 * DAY * 100 / 1e6)]],
    "7": [
        [("a", 100.0), ("b", 100.0), ("c", 95.0), ("gone", 100.0)],
        [("b", minutes_ago(530), minutes_ago(499))],
    ],
    "8": [[("http_request_duration_seconds_bucket", 4, 0), ("http_requests_total", 4, 3), ("up", 4, 4)]],
    "9": [[("api", 0.5 + 0.5 * 5 / 9)]],
    "10": [
        [(date(2026, 3, day), 240.0 * DAY, 100 * 20 / 240) for day in (9, 10)],
        [
            (minutes_ago(120), "a", 2.0, 1.0),
            (minutes_ago(120), "b", 90.5, 90.5),
            (minutes_ago(60), "a", 2.0, 1.0),
            (minutes_ago(60), "b", 30.5, 30.5),
            (minutes_ago(0), "a", 2.0, 1.0),
            (minutes_ago(0), "b", 0.0, 59 * 1410 / 60),
        ],
    ],
}


async def test_the_questions_of_the_page_have_the_answers_we_know(database: Database) -> None:
    for statement in SERVICE:
        await database.ask(statement)
    sections = re.split(r"^### (\d+)\. ", QUESTIONS, flags=re.MULTILINE)[1:]
    asked = {number: SQL.findall(text) for number, text in zip(sections[::2], sections[1::2], strict=True)}
    assert asked.keys() == ANSWERS.keys()
    for number, queries in asked.items():
        for query, expected in zip(queries, ANSWERS[number], strict=True):
            found = await database.ask(query)
            assert len(found) == len(expected), (number, found)
            assert flat(found) == pytest.approx(flat(expected)), (number, found)


def flat(rows: Rows) -> list[Any]:
    """The cells of all rows, so that numbers among them can be compared up to rounding."""
    return [cell if isinstance(cell, int | float | Decimal) else str(cell) for row in rows for cell in row]


async def test_the_other_examples_run(database: Database) -> None:
    examples = [*SQL.findall(PAGE.split("## Ten questions")[0]), *SQL.findall((ROOT / "README.md").read_text())]
    assert len(examples) >= 4
    for example in examples:
        if not example.startswith("CREATE ROLE"):
            assert await database.ask(example), example
        elif database.kind != "duckdb":
            await database.ask(example)
            await database.ask("DROP ROLE grafana")


def test_the_page_names_every_function_and_both_databases_have_it() -> None:
    named = set(re.findall(r"^\| `(\w+)\(", PAGE, re.MULTILINE))
    made = set(re.findall(r"CREATE (?:OR REPLACE )?FUNCTION (\w+)\(", "".join(functions_for_people(False))))
    assert named == made == set(re.findall(r"CREATE MACRO (\w+)\(", "".join(macros.STATEMENTS)))
