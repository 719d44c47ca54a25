"""Remote write 2.0 over a real server: what was acknowledged, exemplars and metadata too, is there once after kill -9 under load."""

import http.client
import random
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import snappy  # type: ignore[import-untyped]  # python-snappy ships no type information

from promlike.remote_write.pb.remote_write_v2_pb2 import Metadata, Request
from tests.servers import STOP_SECONDS, Server, ask, kill_rounds, promlike

HEADERS = {
    "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "2.0.0",
}
ROUNDS = kill_rounds(2)
SERIES = 20
STEP_MS = 50
CONFIG = "storage: {exemplars: {max_exemplars: 10000000}}\n"
"""More than the fastest machine can send in the time: beyond the limit the oldest are dropped, and not answered."""


def body(step: int, base_ms: int) -> bytes:
    """A sample and an exemplar of every series; symbols stand in another order in every body."""
    request = Request(symbols=[b""])
    texts = ["__name__", "asked_total", "series", "trace_id", f"trace-{step}", "How often.", *(f"{number:02d}" for number in range(SERIES))]
    random.Random(step).shuffle(texts)
    request.symbols.extend(text.encode() for text in texts)
    ref = {text: place for place, text in enumerate(texts, 1)}
    for number in range(SERIES):
        series = request.timeseries.add(labels_refs=[ref["__name__"], ref["asked_total"], ref["series"], ref[f"{number:02d}"]])
        time_ms = base_ms + step * STEP_MS
        series.samples.add(value=float(step), timestamp=time_ms, start_timestamp=base_ms)
        series.exemplars.add(labels_refs=[ref["trace_id"], ref[f"trace-{step}"]], value=float(number), timestamp=time_ms)
        series.metadata.CopyFrom(Metadata(type=Metadata.METRIC_TYPE_COUNTER, help_ref=ref["How often."]))
    compressed: bytes = snappy.compress(request.SerializeToString())
    return compressed


class Writer(threading.Thread):
    """Sends a step after the other until the server is gone; knows which were acknowledged, and with what."""

    def __init__(self, server: Server, first_step: int, base_ms: int) -> None:
        super().__init__(daemon=True)
        self.server, self.step, self.base_ms = server, first_step, base_ms
        self.acknowledged: list[int] = []
        self.written: set[tuple[str | None, ...]] = set()

    def run(self) -> None:
        with suppress(OSError, http.client.HTTPException), self.server.connection() as connection:
            while (answer := ask(connection, "POST", "/api/v1/write", body(self.step, self.base_ms), HEADERS)).status == 204:
                names = ("Samples", "Histograms", "Exemplars")
                self.written.add(tuple(answer.headers[f"X-Prometheus-Remote-Write-{name}-Written"] for name in names))
                self.acknowledged.append(self.step)
                self.step += 1


@pytest.mark.parametrize("flush", ["1s", "10m"])
def test_acknowledged_exemplars_survive_kill_9_once(tmp_path: Path, flush: str) -> None:
    base_ms, step = int(time.time() * 1000) - 600_000, 0
    acknowledged: list[int] = []
    written: set[tuple[str | None, ...]] = set()
    for _ in range(ROUNDS):
        with promlike(tmp_path, f"--storage.flush-interval={flush}", config=CONFIG) as server:
            writer = Writer(server, step, base_ms)
            writer.start()
            time.sleep(random.uniform(0.8, 1.6))
            server.stop(signal.SIGKILL)
            writer.join(STOP_SECONDS)
            assert not writer.is_alive()
            acknowledged += writer.acknowledged
            written |= writer.written
            step = writer.step + 1
    assert acknowledged
    assert written == {(str(SERIES), "0", str(SERIES))}
    for _ in range(2):
        with promlike(tmp_path, config=CONFIG) as server:
            check(server, acknowledged, base_ms)


def check(server: Server, acknowledged: list[int], base_ms: int) -> None:
    """A step that was sent and not acknowledged may be there; nothing may be there twice."""
    found = server.data("query_exemplars", query="asked_total", start=str(base_ms / 1000 - 1), end=str(time.time() + 600))
    assert [series["seriesLabels"]["series"] for series in found] == [f"{number:02d}" for number in range(SERIES)]
    for number, series in enumerate(found):
        steps = [round((exemplar["timestamp"] * 1000 - base_ms) / STEP_MS) for exemplar in series["exemplars"]]
        assert len(set(steps)) == len(steps)
        assert set(steps) >= set(acknowledged)
        assert [exemplar["labels"] for exemplar in series["exemplars"]] == [{"trace_id": f"trace-{step}"} for step in steps]
        assert {exemplar["value"] for exemplar in series["exemplars"]} == {str(number)}
    samples = server.data("query", query="asked_total[3h]", time=str(time.time() + 600))["result"]
    assert len(samples) == SERIES
    for series in samples:
        assert {float(value) for _, value in series["values"]} >= set(map(float, acknowledged))
    metadata = server.get("/api/v1/metadata").json()["data"]
    assert metadata == {"asked_total": [{"type": "counter", "help": "How often.", "unit": ""}]}
