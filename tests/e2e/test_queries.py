"""Queries of a running server: places in the queue, clients that go away."""

import http.client
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.servers import Server, promlike

SLOW = " + ".join(f"count(last_over_time(topk({k}, slow)[1d:600ms]))" for k in range(50, 70))
"""Seconds of work for one thread, in steps short enough to be stopped between them."""


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


def ask_and_leave(server: Server, after: float) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", f"/api/v1/query?query={quote(SLOW)}")
    time.sleep(after)
    connection.close()


def test_a_client_that_goes_away_frees_its_place(server: Server) -> None:
    started = time.monotonic()
    assert server.post("/api/v1/query", query=SLOW).status == 200
    whole = time.monotonic() - started
    ask_and_leave(server, whole / 10)
    started = time.monotonic()
    assert server.get("/api/v1/query", query="1").status == 200
    assert time.monotonic() - started < whole / 2


def test_a_query_that_finds_no_place_in_time_is_a_timeout(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", f"/api/v1/query?query={quote(SLOW)}")
    time.sleep(0.2)
    waited = server.get("/api/v1/query", query="1", timeout="0.1")
    assert waited.status == 503
    assert waited.json()["errorType"] == "timeout"
    assert waited.json()["error"] == "query timed out in query queue"
    connection.close()


def test_a_slow_query_ends_at_its_timeout(server: Server) -> None:
    started = time.monotonic()
    answer = server.post("/api/v1/query", query=SLOW, timeout="300ms")
    assert answer.status == 503
    told = answer.json()
    assert (told["status"], told["errorType"]) == ("error", "timeout")
    # Where the millisecond ends depends on how busy the machine is.
    assert told["error"] in ("query timed out in expression evaluation", "query timed out in query queue")
    assert time.monotonic() - started < 3


def test_other_requests_are_answered_while_a_query_runs(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", f"/api/v1/query?query={quote(SLOW)}")
    time.sleep(0.2)
    seconds = []
    for _ in range(10):
        started = time.monotonic()
        assert server.get("/api/v1/label/number/values").status == 200
        seconds.append(time.monotonic() - started)
    connection.close()
    assert sorted(seconds)[5] < 0.5
