"""kill -9 while samples are written, late ones too, written over and deleted, and while the store is cleaned and copied: what is there is
known to the sample, beside the running server and after every restart.

`PROMLIKE_KILL_ROUNDS=200` kills more often.
"""

import http.client
import random
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

import duckdb
import snappy  # type: ignore[import-untyped]  # python-snappy ships no type information

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.servers import REMOTE_WRITE, STOP_SECONDS, Server, kill_rounds, promlike

ROUNDS = kill_rounds(4)
CLIENTS = 3
DAY_MS = 86_400_000
FLAGS = ("--web.enable-admin-api", "--storage.tsdb.retention.time=30d")
FLUSHES = ("50ms", "200ms", "1s", "1h")

Held = dict[tuple[int, int], float]
"""By number of the series and time: the value."""


class Client:
    """Does one thing after the other with a metric of its own, so that it always knows what is there."""

    def __init__(self, number: int, base_ms: int) -> None:
        self.metric, self.base_ms = f"metric{number}", base_ms
        self.pick = random.Random(number)
        self.held: Held = {}
        self.unanswered: Held | None = None
        """What would be there if the last thing that was asked for has happened."""
        self.done = 0
        self._now_ms, self._series = base_ms, 0
        self._thread = threading.Thread()
        self._problem: BaseException | None = None

    def start(self, server: Server) -> None:
        self._thread = threading.Thread(target=self._run, args=(server,), daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until it has seen that the server is gone; raise what went wrong before."""
        self._thread.join(STOP_SECONDS)
        assert not self._thread.is_alive()
        if self._problem is not None:
            raise self._problem

    def settle(self, server: Server) -> None:
        """After a restart: what was not answered has happened as a whole or not at all."""
        found = self._stored(server)
        if self.unanswered is not None and found == self.unanswered:
            self.held = self.unanswered
        self.unanswered = None
        self._compare(found)
        self._compare_rollups(server)

    def _run(self, server: Server) -> None:
        try:
            with suppress(OSError, http.client.HTTPException):
                while True:
                    self.pick.choices((self._write, self._delete, self._look), (10, 2, 1))[0](server)
                    self.done += 1
        except BaseException as error:
            self._problem = error
            raise

    def _write(self, server: Server) -> None:
        """New samples of a new series and some others, late ones, and others in place of samples that are there."""
        pick, changes = self.pick, Held()
        self._series += pick.choice((0, 1, 5))
        self._now_ms += pick.choice((100, 1_000, 10_000))
        for _ in range(pick.choice((1, 20, 200))):
            late_ms = pick.randrange(self._now_ms - self.base_ms) if pick.random() < 0.2 else 0
            changes[pick.randrange(self._series + 1), self._now_ms - late_ms] = pick.random()
        for key in pick.sample(sorted(self.held), min(len(self.held), 3)):
            changes[key] = pick.choice((self.held[key], pick.random()))
        request = WriteRequest()
        for (number, time_ms), value in sorted(changes.items()):
            series = request.timeseries.add()
            for name, text in (("__name__", self.metric), ("series", str(number))):
                series.labels.add(name=name.encode(), value=text.encode())
            series.samples.add(timestamp=time_ms, value=value)
        body = snappy.compress(request.SerializeToString())
        self._change(server, self.held | changes, "/api/v1/write", body, REMOTE_WRITE)

    def _delete(self, server: Server) -> None:
        """The samples of a tenth of the series, in some time or ever."""
        digit = self.pick.randrange(10)
        low, high = sorted(self.pick.randrange(self.base_ms, self._now_ms + 1) for _ in range(2))
        if self.pick.random() < 0.2:
            low, high = 0, 2 * self._now_ms
        kept = {
            (series, time_ms): value for (series, time_ms), value in self.held.items() if series % 10 != digit or not low <= time_ms <= high
        }
        match = f"{self.metric}%7Bseries=~%22.*{digit}%22%7D"
        self._change(server, kept, f"/api/v1/admin/tsdb/delete_series?match[]={match}&start={low / 1000}&end={high / 1000}")

    def _change(self, server: Server, held: Held, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.unanswered = held
        status = server.request("POST", path, body, headers).status
        assert status in (204, 503)
        if status == 204:
            self.held = held
        self.unanswered = None

    def _look(self, server: Server) -> None:
        low, high = sorted(self.pick.randrange(self.base_ms - 1, self._now_ms + 2) for _ in range(2))
        self._compare(self._stored(server, low, high + 1), low, high + 1)
        self._compare_rollups(server)

    def _stored(self, server: Server, low_ms: int = 0, high_ms: int = 0) -> Held:
        """What queries see of the samples in (low, high], everything unless given. Each stands there once, in the order of time."""
        low_ms, high_ms = low_ms or self.base_ms - 1, high_ms or self._now_ms + 1
        found = Held()
        for row in server.data("query", query=f"{self.metric}[{high_ms - low_ms}ms]", time=str(high_ms / 1000))["result"]:
            times = [round(time_s * 1000) for time_s, _ in row["values"]]
            assert times == sorted(set(times))
            found |= {(int(row["metric"]["series"]), ms): float(value) for ms, (_, value) in zip(times, row["values"], strict=True)}
        return found

    def _compare(self, found: Held, low_ms: int = 0, high_ms: int = 0) -> None:
        wanted = {key: value for key, value in self.held.items() if low_ms < key[1] <= (high_ms or key[1])}
        lost, more = [key for key in wanted if key not in found], [key for key in found if key not in wanted]
        assert (lost, more) == ([], []), self.metric
        assert found == wanted

    def _compare_rollups(self, server: Server) -> None:
        counts: dict[str, str] = {}
        for series, _ in self.held:
            counts[str(series)] = str(int(counts.get(str(series), 0)) + 1)
        query = {"query": f"count_over_time({self.metric}[5d])", "time": str((self.base_ms + 4 * DAY_MS) / 1000)}
        for resolution in ("5m", "1h"):
            result = server.data("query", **query, max_source_resolution=resolution)["result"]
            assert {row["metric"]["series"]: row["value"][1] for row in result} == counts


def keep_store(server: Server, copies: list[str]) -> None:
    """Clean and copy the store in turn until the server is gone."""
    with suppress(OSError, http.client.HTTPException):
        while True:
            assert server.post("/api/v1/admin/tsdb/clean_tombstones").status in (204, 503)
            answer = server.post("/api/v1/admin/tsdb/snapshot")
            assert answer.status in (200, 503)
            if answer.status == 200:
                copies.append(answer.json()["data"]["name"])


def check_copies(folder: Path, told: list[str]) -> None:
    """Every copy is whole, and those that were told of are there."""
    copies = {path.name: path for path in (folder / "data" / "snapshots").glob("*")}
    assert not any(name.startswith(".") for name in copies)
    assert set(told) <= set(copies)
    for path in copies.values():
        assert [file.name for file in path.iterdir()] == ["promlike.duckdb"]
        with duckdb.connect(path / "promlike.duckdb", read_only=True) as copy:
            assert copy.execute("SELECT count(*) FROM samples").fetchone() is not None
        shutil.rmtree(path)
    told.clear()


def test_what_is_there_is_known_to_the_sample_whenever_the_server_is_killed(tmp_path: Path) -> None:
    moments = random.Random(5)
    base_ms = int(time.time() * 1000) - 4 * DAY_MS
    clients = [Client(number, base_ms) for number in range(CLIENTS)]
    told: list[str] = []
    for round_ in range(ROUNDS + 1):
        flags = [f"--storage.flush-interval={FLUSHES[round_ % len(FLUSHES)]}", *FLAGS]
        if round_ % 3 == 1:
            flags.append("--storage.wal-max-size=1MB")  # its segments are small, others at the next start large
        with promlike(tmp_path, *flags) as server:
            check_copies(tmp_path, told)
            for client in clients:
                client.settle(server)
            if round_ == ROUNDS:
                assert server.stop() == 0
                break
            keeper = threading.Thread(target=keep_store, args=(server, told), daemon=True)
            keeper.start()
            for client in clients:
                client.start(server)
            time.sleep(moments.uniform(0.5, 2.0))
            server.process.kill()
            server.process.wait(STOP_SECONDS)
            keeper.join(STOP_SECONDS)
            for client in clients:
                client.join()
        assert "corrupt" not in server.log
        assert "flush failed" not in server.log
    assert all(client.done > 5 * ROUNDS for client in clients)
    held = sum(len(client.held) for client in clients)
    with duckdb.connect(tmp_path / "data" / "promlike.duckdb", read_only=True) as store:
        assert store.execute("SELECT count(*), count(DISTINCT (series_id, ts)) FROM samples").fetchone() == (held, held)
