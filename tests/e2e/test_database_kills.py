"""kill -9 of promlike, of PostgreSQL, and of both, under load: what was acknowledged is in the database, once.

`PROMLIKE_KILL_ROUNDS=10` kills more often.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import pytest

from promlike.storage.timescale.values import value_of
from tests.e2e.test_durability import CONNECTIONS, SERIES, Writer
from tests.servers import STOP_SECONDS, Server, free_port, kill_rounds, promlike
from tests.storage.postgres import Postgres, postgresql, timescaledb

ROUNDS = kill_rounds(2)
FLAGS = ("--storage.flush-interval=1s", "--storage.connect-timeout=2s", "--storage.statement-timeout=5s")
STORED = f"""
SELECT labels->>'connection' AS connection, array_agg(({value_of()})::int) AS steps,
    count(*) AS samples, count(DISTINCT (series_id, ts)) AS places
FROM promlike.samples JOIN promlike.series ON series.id = series_id GROUP BY 1
"""


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    with timescaledb() if request.param == "timescaledb" else postgresql() as running:
        yield running


@dataclass(slots=True, kw_only=True)
class Load:
    """Writers that go on where they were when the daemon comes back, and what was acknowledged to each."""

    base_ms: int
    steps: list[int] = field(default_factory=lambda: [0] * CONNECTIONS)
    acknowledged: list[list[int]] = field(default_factory=lambda: [[] for _ in range(CONNECTIONS)])
    unanswered: int = 0
    _writers: list[Writer] = field(default_factory=list)

    def start(self, server: Server) -> None:
        self._writers = [Writer(server, number, self.steps[number], self.base_ms) for number in range(CONNECTIONS)]
        for writer in self._writers:
            writer.start()

    def join(self) -> None:
        """Wait for the writers to see that the daemon is gone. The step in flight may be stored or not; it is not sent again."""
        for writer in self._writers:
            writer.join(STOP_SECONDS)
            assert not writer.is_alive()
            self.acknowledged[writer.number] += writer.acknowledged
            self.steps[writer.number] = writer.step + 1
            self.unanswered += 1


def database(server: Postgres, name: str) -> str:
    async def create() -> None:
        connection = await asyncpg.connect(server.url("postgres"))
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    asyncio.run(create())
    return server.url(name)


def check(url: str, load: Load) -> None:
    """Everything acknowledged is stored for every series, nothing twice, and nothing that was not sent."""

    async def fetch() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url)
        rows: list[asyncpg.Record] = await connection.fetch(STORED)
        await connection.close()
        return rows

    rows = asyncio.run(fetch())
    assert len(rows) == CONNECTIONS
    for row in rows:
        done = load.acknowledged[int(row["connection"])]
        times_stored = dict.fromkeys(done, 0)
        for step in row["steps"]:
            times_stored[step] = times_stored.get(step, 0) + 1
        assert {step: times_stored[step] for step in done} == dict.fromkeys(done, SERIES)
        assert row["samples"] == row["places"]
        assert set(times_stored.values()) == {SERIES}
        assert len(times_stored) <= len(done) + load.unanswered


@pytest.mark.parametrize(
    ("server", "killed"),
    [("timescaledb", "promlike"), ("timescaledb", "postgresql"), ("timescaledb", "both"), ("plain", "both")],
    indirect=["server"],
)
def test_what_was_acknowledged_is_stored_once_after_kill_9(server: Postgres, tmp_path: Path, killed: str) -> None:
    moments = random.Random(killed)
    url, port = database(server, f"killed_{killed}"), free_port()
    load = Load(base_ms=int(time.time() * 1000) - 1_800_000)
    with ExitStack() as stack:
        daemon = stack.enter_context(promlike(tmp_path, f"--storage.url={url}", *FLAGS, port=port))
        load.start(daemon)
        for _ in range(ROUNDS):
            time.sleep(moments.uniform(0.5, 2.0))
            if killed != "promlike":
                server.kill()
            if killed != "postgresql":
                daemon.process.kill()
                daemon.process.wait(STOP_SECONDS)
                load.join()
            if killed != "promlike":
                time.sleep(moments.uniform(0.0, 0.5))
                server.start()
            if killed != "postgresql":
                daemon = stack.enter_context(promlike(tmp_path, f"--storage.url={url}", *FLAGS, port=port))
                load.start(daemon)
        time.sleep(1.5)
        daemon.process.kill()
        daemon.process.wait(STOP_SECONDS)
        load.join()
    assert all(len(done) > 5 * ROUNDS for done in load.acknowledged)
    with promlike(tmp_path, f"--storage.url={url}", *FLAGS, port=port) as daemon:
        assert daemon.stop() == 0
    check(url, load)
