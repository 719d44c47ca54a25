"""kill -9 while samples are rolled up, and rolled up again: what was begun is done after the next start, once.

`PROMLIKE_KILL_ROUNDS=10` kills more often.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import duckdb
import pytest

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from promlike.storage.timescale.values import value_of
from tests.e2e.test_database_kills import database
from tests.e2e.test_rollups import rolled_up_ms
from tests.servers import STOP_SECONDS, Server, free_port, kill_rounds, promlike
from tests.storage.postgres import Postgres, postgresql, timescaledb

ROUNDS = kill_rounds(1)
HOUR_MS = 3_600_000
HOURS = 48
SERIES = 16
STEP_MS = 30_000
BOOKS = """
SELECT (SELECT count(*) FROM {0}rollup_marks), count(*), sum({1}) FROM {0}samples JOIN {0}series ON id = series_id
WHERE metric = 'work_total'
"""
STRETCHES = "SELECT count(*), count(DISTINCT (series_id, until)) FROM {0}rollup_{1}"
ROWS = "SELECT sum(count), sum(sum) FROM {0}labelled_rollups WHERE metric = 'work_total' AND resolution = '{1}'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where samples go, and how to look at what is there."""

    flags: tuple[str, ...]
    server: Postgres | None
    url: str
    file: Path

    def ask(self, text: str, *names: str) -> list[float]:
        """The one row of an answer. promlike does not run."""
        if self.server is None:
            with duckdb.connect(self.file, read_only=True) as connection:
                return [float(value) for value in connection.execute(text.format("", *names)).fetchall()[0]]

        async def fetch() -> Any:
            connection = await asyncpg.connect(self.url)
            row = await connection.fetchrow(text.format("promlike.", *names))
            await connection.close()
            return row

        return [float(value) for value in asyncio.run(fetch())]


@pytest.fixture(params=["duckdb", "timescaledb", "plain"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    file = tmp_path / "data" / "promlike.duckdb"
    if request.param == "duckdb":
        yield Kept(flags=(), server=None, url="", file=file)
        return
    with timescaledb() if request.param == "timescaledb" else postgresql() as server:
        url = database(server, "rolled")
        yield Kept(flags=(f"--storage.url={url}", "--storage.connect-timeout=2s"), server=server, url=url, file=file)


def counters(end_ms: int, first: int, last: int) -> WriteRequest:
    """Samples of all series between two hours before the end."""
    request = WriteRequest()
    for number in range(SERIES):
        series = request.timeseries.add()
        for name, value in (("__name__", "work_total"), ("worker", f"{number:02d}")):
            series.labels.add(name=name.encode(), value=value.encode())
        for ts in range(end_ms - first * HOUR_MS + STEP_MS, end_ms - last * HOUR_MS + STEP_MS, STEP_MS):
            series.samples.add(timestamp=ts, value=float(ts // STEP_MS % 5000 + number))
    return request


def newest() -> WriteRequest:
    """A sample of now: by it a start knows at once, and not a minute after its first flush, that nothing older waits."""
    request = WriteRequest()
    series = request.timeseries.add()
    series.labels.add(name=b"__name__", value=b"newest")
    series.samples.add(timestamp=int(time.time() * 1000), value=1.0)
    return request


def late(end_ms: int, moments: random.Random) -> WriteRequest:
    """A sample each of some series, anywhere, which changes the sum of an hour."""
    request = WriteRequest()
    for number in moments.sample(range(SERIES), 5):
        series = request.timeseries.add()
        for name, value in (("__name__", "work_total"), ("worker", f"{number:02d}")):
            series.labels.add(name=name.encode(), value=value.encode())
        series.samples.add(timestamp=end_ms - moments.randrange(HOURS * HOUR_MS), value=1e6)
    return request


def sums(server: Server, end_ms: int, resolution: str) -> tuple[dict[str, list[float]], bool]:
    """Hourly sums of all series, and whether a rollup said so."""
    times = {"start": str((end_ms - (HOURS - 1) * HOUR_MS) // 1000), "end": str(end_ms // 1000), "step": "3600"}
    found = server.get("/api/v1/query_range", query="sum_over_time(work_total[1h])", **times, max_source_resolution=resolution).json()
    rows = {row["metric"]["worker"]: [float(value) for _, value in row["values"]] for row in found["data"]["result"]}
    return rows, "infos" in found


def test_rolling_up_goes_on_after_kill_9(kept: Kept, tmp_path: Path) -> None:
    end_ms = int(time.time() * 1000) // HOUR_MS * HOUR_MS - HOUR_MS
    moments, port = random.Random(11), free_port()
    flags = ("--storage.flush-interval=300ms", *kept.flags)
    with promlike(tmp_path, *flags, port=port) as server:
        for hour in range(HOURS, 0, -24):
            assert server.write(counters(end_ms, hour, hour - 24)).status == 204
        assert server.write(newest()).status == 204
        assert server.stop() == 0
    with ExitStack() as stack:
        for lap in range(ROUNDS):
            server = stack.enter_context(promlike(tmp_path, *flags, port=port))
            assert server.write(late(end_ms, moments)).status == 204
            time.sleep(moments.uniform(0.0, 1.2))
            if kept.server is not None and lap % 2:
                kept.server.kill()
            server.process.kill()
            server.process.wait(STOP_SECONDS)
            if kept.server is not None and lap % 2:
                kept.server.start()
    for _ in range(20):
        with promlike(tmp_path, *flags, port=port) as server:
            reached_ms = wait_for_time(server, end_ms)
            time.sleep(0.5)
            assert server.stop() == 0
        marks, samples, total = kept.ask(BOOKS, "value" if kept.server is None else value_of())
        if not marks:
            break
    assert reached_ms >= end_ms
    assert not marks
    assert samples >= HOURS * 120 * SERIES + 1
    for tier in ("5m", "1h"):
        count, different = kept.ask(STRETCHES, tier)
        assert count == different
        assert kept.ask(ROWS, tier) == pytest.approx([samples, total], rel=1e-12)
    with promlike(tmp_path, *flags, port=port) as server:
        wanted, from_rollup = sums(server, end_ms, "raw")
        assert not from_rollup
        for resolution in ("5m", "1h"):
            found, from_rollup = sums(server, end_ms, resolution)
            assert from_rollup
            assert found == {worker: pytest.approx(row, rel=1e-12) for worker, row in wanted.items()}


def wait_for_time(server: Server, time_ms: int) -> float:
    """How far rollups reach: so far, or, after a minute, less."""
    for _ in range(600):
        if rolled_up_ms(server) >= time_ms:
            break
        time.sleep(0.1)
    return rolled_up_ms(server)
