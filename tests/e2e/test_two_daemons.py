"""Two daemons on one database and one Redis: what either takes, both answer, also from each other's answers, and never wrong."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import pytest

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.cache.redis_server import RedisServer, redis_server
from tests.e2e.test_database_kills import database
from tests.servers import Server, promlike
from tests.storage.postgres import timescaledb

STEP_MS = 15_000
WINDOW_MS = 60_000
HOURS_MS = 2 * 3_600_000
ATTEMPT_S = 2.0
"""So long is waited for one answer to come to Redis."""
SOON_S = 60.0
"""Within so much time a daemon has seen what the other one flushed: it looks at least when somebody asks."""
COUNTS = """
SELECT count(*) AS series, count(DISTINCT labels) AS labels,
    (SELECT count(*) FROM promlike.samples) AS samples, (SELECT count(DISTINCT (series_id, ts)) FROM promlike.samples) AS places,
    (SELECT max(writers) FROM (SELECT count(DISTINCT writer) AS writers FROM promlike.writer_series GROUP BY series_id) AS each) AS writers
FROM promlike.series
"""

Points = dict[str, dict[int, float]]
"""Series, by their label `instance`, to the values by times."""


@dataclass(slots=True, kw_only=True)
class Cluster:
    """Both daemons, and what was sent to them and not deleted. All values are whole numbers, whose sums are exact."""

    daemons: list[Server]
    redis: RedisServer
    url: str
    start_ms: int
    end_ms: int
    truth: Points = field(default_factory=dict)
    shifts: Iterator[int] = field(default_factory=lambda: iter(range(1, STEP_MS)))
    """Of steps, by so many milliseconds: of those nothing is kept yet."""

    def send(self, number: int, points: Points) -> None:
        """Have one daemon acknowledge samples."""
        request = WriteRequest()
        for instance, row in points.items():
            series = request.timeseries.add()
            for name, text in (("__name__", "work"), ("instance", instance)):
                series.labels.add(name=name.encode(), value=text.encode())
            for ts, value in sorted(row.items()):
                series.samples.add(timestamp=ts, value=value)
            self.truth.setdefault(instance, {}).update(row)
        assert self.daemons[number].write(request).status == 204

    def delete(self, number: int, instance: str, start_ms: int, end_ms: int) -> None:
        """Have a daemon delete samples of a series, both times included."""
        wanted = {"match[]": f'work{{instance="{instance}"}}', "start": f"{start_ms / 1000:.3f}", "end": f"{end_ms / 1000:.3f}"}
        answer = self.daemons[number].post("/api/v1/admin/tsdb/delete_series", **wanted)
        assert answer.status == 204, answer.text
        row = self.truth[instance]
        self.truth[instance] = {ts: value for ts, value in row.items() if not start_ms <= ts <= end_ms}

    def wait_until_flushed(self) -> None:
        for daemon in self.daemons:
            wait_for(lambda daemon=daemon: metric(daemon, "promlike_storage_unflushed_samples") == 0)  # type: ignore[misc]  # bound in the loop

    def expected(self) -> Points:
        """What `sum_over_time(work[1m])` is at every step."""
        found: Points = {}
        for instance, row in self.truth.items():
            for step in range(self.start_ms, self.end_ms + 1, STEP_MS):
                window = [value for ts, value in row.items() if step - WINDOW_MS < ts <= step]
                if window:
                    found.setdefault(instance, {})[step] = sum(window)
        return found

    def answer(self, number: int, *, first_ms: int | None = None, **params: str) -> tuple[Points, dict[str, int]]:
        """What a daemon says that is, and what it says of its cache."""
        start = str((first_ms or self.start_ms) / 1000)
        times = {"start": start, "end": str(self.end_ms / 1000), "step": str(STEP_MS // 1000)}
        data = self.daemons[number].data("query_range", query="sum_over_time(work[1m])", **times, stats="all", **params)
        points = {each["metric"]["instance"]: {int(ts * 1000): float(value) for ts, value in each["values"]} for each in data["result"]}
        return points, data["stats"].get("resultCache", {})

    def check(self, *, before: Points | None = None, seen_at_once: tuple[int, ...] = ()) -> None:
        """Both answer what is right, with the cache and without; until news has arrived, what was right before."""
        expected = self.expected()
        for number in seen_at_once:
            assert self.answer(number)[0] == expected
        for number in range(2):

            def arrived(number: int = number) -> bool:
                found, _ = self.answer(number)
                assert found in (expected, before)
                return found == expected

            wait_for(arrived)
            assert self.answer(number, nocache="1")[0] == expected
            assert self.answer(number)[0] == expected

    def check_sharing(self) -> None:
        """What one has evaluated the other gets from Redis. An attempt may come to nothing, because Redis is slow, or was away just now;
        and not shared is where one has in memory what the other deleted or replaced.
        """

        def shared() -> bool:
            first_ms, before = self.start_ms + next(self.shifts), written(self.daemons[0])
            self.answer(0, first_ms=first_ms)
            if not comes(lambda: written(self.daemons[0]) > before, ATTEMPT_S):
                return False
            found, stats = self.answer(1, first_ms=first_ms)
            assert found == self.answer(1, first_ms=first_ms, nocache="1")[0]
            return stats["sharedSteps"] > 0

        wait_for(shared)


def wait_for(true: Callable[[], bool]) -> None:
    assert comes(true, SOON_S)


def comes(true: Callable[[], bool], seconds: float) -> bool:
    """Is it true within so many seconds?"""
    give_up_at = time.monotonic() + seconds
    while not true():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.05)
    return True


def metric(server: Server, name: str) -> float:
    """The sum of the series whose names and labels begin so."""
    return sum(float(line.rpartition(" ")[2]) for line in server.get("/metrics").text.splitlines() if line.startswith(name))


def written(server: Server) -> float:
    return metric(server, 'promlike_result_cache_shared_writes_total{result="written"}')


def flags(url: str, redis: RedisServer) -> list[str]:
    own = [f"--storage.url={url}", f"--cache.redis-url={redis.url}"]
    return [*own, "--storage.flush-interval=500ms", "--web.enable-admin-api"]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        url = database(stack.enter_context(timescaledb()), "shared")
        redis = stack.enter_context(redis_server())
        daemons = []
        for name in "ab":
            (tmp_path / name).mkdir()
            daemons.append(stack.enter_context(promlike(tmp_path / name, *flags(url, redis))))
        end_ms = int(time.time() * 1000) // STEP_MS * STEP_MS - 300_000
        yield Cluster(daemons=daemons, redis=redis, url=url, start_ms=end_ms - HOURS_MS, end_ms=end_ms)


def count(url: str) -> asyncpg.Record:
    async def fetch() -> asyncpg.Record:
        connection = await asyncpg.connect(url)
        row = await connection.fetchrow(COUNTS)
        await connection.close()
        return row

    return asyncio.run(fetch())


def test_what_two_daemons_take_both_answer_also_from_each_others_answers(cluster: Cluster, tmp_path: Path) -> None:
    second = cluster.daemons[1]
    times = range(cluster.start_ms, cluster.end_ms + 1, STEP_MS)
    evens = {"both": {ts: float(k) for k, ts in enumerate(times) if not k % 2}}
    odds = {"both": {ts: float(k) for k, ts in enumerate(times) if k % 2}}
    alike = {"alike": {ts: float(k % 7) for k, ts in enumerate(times)}}
    cluster.send(0, evens | alike | {"first": dict.fromkeys(times, 1.0)})
    cluster.send(1, odds | alike | {"second": dict.fromkeys(times, 2.0)})
    cluster.wait_until_flushed()
    cluster.check()
    row = count(cluster.url)
    assert (row["series"], row["labels"], row["writers"]) == (4, 4, 2)
    assert row["samples"] == row["places"] == sum(map(len, cluster.truth.values()))

    cluster.check_sharing()
    disturb(cluster)
    cluster.check_sharing()

    # A daemon that starts has nothing in memory.
    assert second.stop() == 0
    with promlike(tmp_path / "b", *flags(cluster.url, cluster.redis), port=second.port) as cluster.daemons[1]:
        cluster.check()
        cluster.check_sharing()


def disturb(cluster: Cluster) -> None:
    """Samples that come late, deletions and a Redis that is killed; what was kept before is not what is right afterwards."""
    moments = random.Random(5)
    for lap in range(12):
        before, number = cluster.expected(), lap % 2
        at_ms = moments.randrange(cluster.start_ms, cluster.end_ms - 1_200_000) | 1
        instance = moments.choice(("both", "alike", "first", "second"))
        if lap % 3 < 2:
            cluster.send(number, {instance: {at_ms: float(1000 + lap), at_ms + 400_000: 3.0}})
            cluster.check(before=before, seen_at_once=(number,))
        else:
            cluster.delete(number, instance, at_ms, at_ms + 500_000)
            cluster.wait_until_flushed()
            assert cluster.answer(number)[0] == cluster.expected()
            # What the other one has in memory, only it can delete.
            assert cluster.answer(1 - number)[0] in (before, cluster.expected())
            cluster.delete(1 - number, instance, at_ms, at_ms + 500_000)
            cluster.wait_until_flushed()
            cluster.check(before=before, seen_at_once=(0, 1))
        if lap in (3, 7):
            cluster.redis.kill()
            cluster.check()
        if lap in (5, 9):
            cluster.redis.start()  # empty
            cluster.check()
