"""Queries of a running server: places in the queue, clients that go away."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.servers import Server, promlike

SLOW = " + ".join(f"count(last_over_time(topk({k}, slow)[1d:600ms]))" for k in range(50, 54))
"""Seconds of work for one thread, in steps short enough to be stopped between them."""

SHORT = "count(last_over_time(slow[10s:1s]))"
"""Milliseconds of work, which yet wait for their turn: subqueries always do."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One query at a time; 100 series that answer for a day."""
    with promlike(tmp_path_factory.mktemp("server"), "--query.max-concurrency=1", "--query.lookback-delta=1d") as running:
        request = WriteRequest()
        for number in range(100):
            series = request.timeseries.add()
            series.labels.add(name=b"__name__", value=b"slow")
            series.labels.add(name=b"number", value=b"%03d" % number)
            series.samples.add(timestamp=int(time.time() * 1000) - 80_000_000, value=float(number))
        assert running.write(request).status == 204
        yield running


@contextmanager
def slow_query(server: Server) -> Iterator[None]:
    """A query that runs; its client goes away at the end."""
    with server.connection() as connection:
        connection.request("GET", f"/api/v1/query?query={quote(SLOW)}")
        while not runs(server):
            time.sleep(0.01)
        yield


def runs(server: Server) -> bool:
    """Is a query being evaluated?"""
    return "\nprometheus_engine_queries 1.0\n" in server.get("/metrics").text


def worked(server: Server) -> float:
    """Seconds of processor time since the start: whatever else the machine does, they say whether a query went on."""
    line = next(line for line in server.get("/metrics").text.splitlines() if line.startswith("process_cpu_seconds_total "))
    return float(line.split()[1])


def test_a_client_that_goes_away_frees_its_place(server: Server) -> None:
    before = worked(server)
    assert server.post("/api/v1/query", query=SLOW).status == 200
    whole = worked(server) - before
    before = worked(server)
    with slow_query(server):
        pass
    assert server.get("/api/v1/query", query=SHORT).status == 200
    assert worked(server) - before < whole / 2


def test_a_query_that_finds_no_place_in_time_is_a_timeout(server: Server) -> None:
    with slow_query(server):
        waited = server.get("/api/v1/query", query=SHORT, timeout="0.1")
    assert waited.status == 503
    assert waited.json()["errorType"] == "timeout"
    assert waited.json()["error"] == "query timed out in query queue"


def test_a_light_query_does_not_stand_in_line(server: Server) -> None:
    with slow_query(server):
        assert server.get("/api/v1/query", query="1").status == 200
        assert runs(server)


def test_a_slow_query_ends_at_its_timeout(server: Server) -> None:
    before = worked(server)
    answer = server.post("/api/v1/query", query=SLOW, timeout="300ms")
    assert answer.status == 503
    told = answer.json()
    assert (told["status"], told["errorType"]) == ("error", "timeout")
    # Where the millisecond ends depends on how busy the machine is.
    assert told["error"] in ("query timed out in expression evaluation", "query timed out in query queue")
    assert worked(server) - before < 2


def test_other_requests_are_answered_while_a_query_runs(server: Server) -> None:
    seconds = []
    with slow_query(server):
        for _ in range(10):
            started = time.monotonic()
            assert server.get("/api/v1/label/number/values").status == 200
            seconds.append(time.monotonic() - started)
    assert sorted(seconds)[5] < 0.5
