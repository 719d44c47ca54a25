"""What was acknowledged is there, once: after kill -9 under load, after a restart, after SIGTERM."""

import http.client
import random
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest
import snappy  # type: ignore[import-untyped]  # python-snappy ships no type information

from promlike.remote_write.pb.remote_write_v1_pb2 import MetricMetadata, WriteRequest
from tests.servers import REMOTE_WRITE, STOP_SECONDS, Server, ask, free_port, kill_rounds, promlike, promlike_command

CONNECTIONS = 4
ROUNDS = kill_rounds(2)
SERIES = 50


class Writer(threading.Thread):
    """One connection: sends bodies of SERIES samples, one step a body, until the server is gone; knows what was acknowledged."""

    def __init__(self, server: Server, number: int, first_step: int, base_ms: int) -> None:
        super().__init__(daemon=True)
        self.server, self.number, self.step, self.base_ms = server, number, first_step, base_ms
        self.acknowledged: list[int] = []

    def run(self) -> None:
        with suppress(OSError, http.client.HTTPException), self.server.connection() as connection:
            while ask(connection, "POST", "/api/v1/write", self.body(self.step), REMOTE_WRITE).status == 204:
                self.acknowledged.append(self.step)
                self.step += 1

    def body(self, step: int) -> bytes:
        request = WriteRequest()
        for number in range(SERIES):
            series = request.timeseries.add()
            for name, value in (("__name__", "written"), ("connection", str(self.number)), ("series", f"{number:03d}")):
                series.labels.add(name=name.encode(), value=value.encode())
            series.samples.add(timestamp=self.base_ms + step * 100, value=float(step))
        compressed: bytes = snappy.compress(request.SerializeToString())
        return compressed


def stored_steps(server: Server, connection: int, time_ms: int) -> dict[str, list[int]]:
    """Steps stored for every series of a connection, as raw samples."""
    result = server.data("query", query=f'written{{connection="{connection}"}}[2h]', time=str(time_ms / 1000))["result"]
    return {row["metric"]["series"]: [int(value) for _, value in row["values"]] for row in result}


def test_every_acknowledged_sample_survives_kill_9_once(tmp_path: Path) -> None:
    moments = random.Random(7)
    base_ms = int(time.time() * 1000) - 3_600_000
    port = free_port()
    steps = [0] * CONNECTIONS
    acknowledged: list[list[int]] = [[] for _ in range(CONNECTIONS)]
    for _ in range(ROUNDS):
        with promlike(tmp_path, "--storage.flush-interval=1s", port=port) as server:
            writers = [Writer(server, number, steps[number], base_ms) for number in range(CONNECTIONS)]
            for writer in writers:
                writer.start()
            time.sleep(moments.uniform(0.3, 2.5))
            server.process.kill()
            server.process.wait(STOP_SECONDS)
            for writer in writers:
                writer.join(STOP_SECONDS)
                acknowledged[writer.number] += writer.acknowledged
                steps[writer.number] = writer.step + 1  # the step in flight may or may not be stored; it is not sent again
    assert all(len(done) > 5 for done in acknowledged)
    with promlike(tmp_path, port=port) as server:
        for number, done in enumerate(acknowledged):
            stored = stored_steps(server, number, base_ms + 3_600_000)
            assert len(stored) == SERIES
            for series, found in stored.items():
                assert found == sorted(set(found)), f"connection {number} series {series}: a sample stands twice"
                assert set(done) <= set(found), f"connection {number} series {series}: lost {sorted(set(done) - set(found))[:10]}"
                assert len(found) <= len(done) + ROUNDS
        counted = server.data("query", query="sum(count_over_time(written[2h]))", time=str((base_ms + 3_600_000) / 1000))["result"]
        total = sum(len(done) for done in acknowledged) * SERIES
        assert total <= int(counted[0]["value"][1]) <= total + ROUNDS * CONNECTIONS * SERIES


@pytest.mark.parametrize("flush", ["1s", "1h"])
def test_a_restart_keeps_everything(tmp_path: Path, flush: str) -> None:
    base_ms = int(time.time() * 1000) - 600_000
    with promlike(tmp_path, f"--storage.flush-interval={flush}") as server:
        writer = Writer(server, 0, 0, base_ms)
        for step in range(40):
            assert server.request("POST", "/api/v1/write", writer.body(step), REMOTE_WRITE).status == 204
        request = WriteRequest()
        family = request.metadata.add()
        family.type, family.metric_family_name, family.help = MetricMetadata.COUNTER, b"written", b"what was written"
        assert server.write(request).status == 204
        time.sleep(1.5 if flush == "1s" else 0)
        before = stored_steps(server, 0, base_ms + 600_000)
        assert server.stop() == 0
    with promlike(tmp_path) as server:
        assert stored_steps(server, 0, base_ms + 600_000) == before
        assert before["007"] == list(range(40))
        assert server.get("/api/v1/metadata").json()["data"]["written"][0]["help"] == "what was written"
        assert server.data("series", **{"match[]": 'written{series="007"}'}) == [
            {"__name__": "written", "connection": "0", "series": "007"}
        ]


def test_sigterm_flushes_into_the_store(tmp_path: Path) -> None:
    base_ms = int(time.time() * 1000) - 60_000
    with promlike(tmp_path) as server:
        writer = Writer(server, 0, 0, base_ms)
        for step in range(10):
            server.request("POST", "/api/v1/write", writer.body(step), REMOTE_WRITE)
        assert server.stop() == 0
    with duckdb.connect(str(tmp_path / "data" / "promlike.duckdb"), read_only=True) as store:
        assert store.execute("SELECT count(*) FROM samples").fetchone() == (10 * SERIES,)


def test_a_second_server_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with promlike(tmp_path) as server:
        second = subprocess.run(promlike_command(tmp_path, free_port()), capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 1
        assert "is in use by another process" in second.stderr
        assert "Traceback" not in second.stderr
        assert server.get("/-/ready").status == 200
