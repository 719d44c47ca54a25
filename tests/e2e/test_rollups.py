"""A running server rolls up what it stored, answers from that when asked to, and keeps it when the samples are gone."""

import time
from pathlib import Path
from typing import Any

import pytest

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.servers import Server, promlike

HOUR_MS = 3_600_000
STEP_MS = 15_000


def six_hours(end_ms: int) -> WriteRequest:
    """A counter that is reset now and then, in a sample every 15 s."""
    request = WriteRequest()
    series = request.timeseries.add()
    for name, value in ((b"__name__", b"work_total"), (b"job", b"w")):
        series.labels.add(name=name, value=value)
    for number in range(6 * HOUR_MS // STEP_MS):
        series.samples.add(timestamp=end_ms - 6 * HOUR_MS + (number + 1) * STEP_MS, value=float(number % 700 * 3))
    return request


def answer(server: Server, end_ms: int, **params: str) -> Any:
    """Hourly rates over five hours that end at a full hour."""
    times = {"start": str((end_ms - 4 * HOUR_MS) // 1000), "end": str(end_ms // 1000), "step": "3600"}
    return server.get("/api/v1/query_range", query="rate(work_total[1h])", **times, **params).json()


def rolled_up_ms(server: Server) -> float:
    """How far rollups reach, as the server's own metrics say."""
    lines = server.get("/metrics").body.decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("promlike_storage_rolled_up_time "))


def wait_for_rollup(server: Server, end_ms: int) -> Any:
    for _ in range(600):
        if rolled_up_ms(server) >= end_ms:
            return answer(server, end_ms, max_source_resolution="1h")
        time.sleep(0.1)
    raise AssertionError(f"nothing was rolled up: {server.log}")


def values(found: Any) -> list[float]:
    return [float(value) for _, value in found["data"]["result"][0]["values"]]


def test_rollups_are_made_answer_and_outlive_the_samples(tmp_path: Path) -> None:
    end_ms = int(time.time() * 1000) // HOUR_MS * HOUR_MS - HOUR_MS
    with promlike(tmp_path, "--storage.flush-interval=1s") as server:
        assert server.write(six_hours(end_ms + 600_000)).status == 204
        raw = answer(server, end_ms, max_source_resolution="raw")
        assert len(values(raw)) == 5
        assert "infos" not in raw
    with promlike(tmp_path, "--storage.flush-interval=1s") as server:
        rolled = wait_for_rollup(server, end_ms)
        assert rolled["infos"] == ["PromQL info: read from the 1h rollup: work_total[1h] (1:6)"]
        assert values(rolled) == pytest.approx(values(raw), rel=1e-12)
        assert "infos" not in answer(server, end_ms)  # so few samples are read themselves
        assert answer(server, end_ms, max_source_resolution="soon")["errorType"] == "bad_data"
    with promlike(tmp_path, "--storage.tsdb.retention.time=30m") as server:
        assert not answer(server, end_ms, max_source_resolution="raw")["data"]["result"]
        kept = answer(server, end_ms)
        assert kept["infos"] == rolled["infos"]
        assert values(kept) == values(rolled)
        assert server.data("label/job/values", **{"match[]": "work_total"}) == ["w"]
