"""Timeouts, budgets, places and clients that go away, on a real server; its metrics show what became of them."""

import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.servers import Server, promlike, require

SERIES = 300
QUEUE = 3
CONFIG = """
scrape_configs:
  - {job_name: closed, scrape_interval: 500ms, scrape_timeout: 500ms, static_configs: [{targets: ["127.0.0.1:1"]}]}
"""
SLOW = " + ".join(f"count(last_over_time(topk({k}, slow{{number=~'0..'}})[1d:600ms]))" for k in range(40, 100))
"""Seconds of work, in steps short enough to be stopped between them."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two queries at a time; 300 series whose one sample answers for a day."""
    flags = (
        "--query.max-concurrency=2",
        f"--query.max-queue-size={QUEUE}",
        "--query.lookback-delta=1d",
        "--query.max-samples=20000000",
        "--web.enable-lifecycle",
    )
    with promlike(tmp_path_factory.mktemp("limits"), *flags, config=CONFIG) as running:
        request = WriteRequest()
        for number in range(SERIES):
            series = request.timeseries.add()
            series.labels.add(name=b"__name__", value=b"slow")
            series.labels.add(name=b"number", value=b"%03d" % number)
            series.samples.add(timestamp=int(time.time() * 1000) - 80_000_000, value=number + 0.25)
        assert running.write(request).status == 204
        yield running


def metric(server: Server, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", server.get("/metrics").text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def active(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.get("/api/v1/status/active_queries").json()["data"]
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@contextmanager
def slow_queries(server: Server, count: int) -> Iterator[None]:
    """So many queries run inside; their clients go away at the end."""
    # A query whose client went away has its place until its threads have seen that.
    wait_until(lambda: metric(server, "promlike_query_memory_bytes") == 0)
    with ExitStack() as clients:
        for _ in range(count):
            clients.enter_context(server.connection()).request("GET", f"/api/v1/query?query={quote(SLOW)}")
        yield


def test_a_query_ends_when_its_client_goes_away(server: Server) -> None:
    with slow_queries(server, 1):
        wait_until(lambda: metric(server, "prometheus_engine_queries") == 1)
    wait_until(lambda: metric(server, "prometheus_engine_queries") == 0, 1.5)


def test_queries_beyond_the_allowed_number_wait_until_their_timeout(server: Server) -> None:
    assert metric(server, "prometheus_engine_queries_concurrent_max") == 2
    with slow_queries(server, 2):
        wait_until(lambda: metric(server, "prometheus_engine_queries") == 2)
        answer = server.get("/api/v1/query", query=SLOW, timeout="100ms")
        assert (answer.status, answer.json()["error"]) == (503, "query timed out in query queue")
    wait_until(lambda: metric(server, "prometheus_engine_queries") == 0)


def test_a_running_query_is_listed_with_its_text_and_its_memory(server: Server) -> None:
    with slow_queries(server, 1):
        wait_until(lambda: any(found["memoryBytes"] > 0 for found in active(server)))
        (found,) = active(server)
        assert found["query"] == SLOW
        assert found["remote_addr"] == "127.0.0.1"
    wait_until(lambda: active(server) == [])


def test_light_queries_do_not_wait_for_heavy_ones(server: Server) -> None:
    with slow_queries(server, 3):
        wait_until(lambda: metric(server, "promlike_queries_queued") == 1)
        answer = server.get("/api/v1/query", query="count(slow)", timeout="2s")
        assert answer.status == 200
        assert answer.json()["data"]["result"][0]["value"][1] == str(SERIES)
        assert metric(server, "promlike_queries_queued") == 1
    wait_until(lambda: metric(server, "prometheus_engine_queries") == 0)


def test_queries_beyond_the_queue_are_refused_at_once(server: Server) -> None:
    with slow_queries(server, 2 + QUEUE):
        wait_until(lambda: metric(server, "promlike_queries_queued") == QUEUE)
        answer = server.get("/api/v1/query", query=SLOW)
        assert (answer.status, answer.json()["errorType"]) == (503, "unavailable")
        assert answer.json()["error"] == f"too many queries: 2 run and {QUEUE} wait already, which is all that may"
    wait_until(lambda: metric(server, "prometheus_engine_queries") == 0)


def test_memory_of_queries_and_answers_is_given_back(server: Server) -> None:
    now = int(time.time())
    params = {"query": "slow * 1.1", "start": str(now - 7200), "end": str(now), "step": "1"}
    assert server.get("/api/v1/query_range", **params).status == 200
    assert metric(server, "promlike_query_memory_peak_bytes") > SERIES * 7200 * 16
    wait_until(lambda: metric(server, "promlike_query_memory_bytes") == 0)


def test_queries_that_need_more_memory_than_allowed_are_a_422(tmp_path: Path) -> None:
    with promlike(tmp_path, "--query.max-memory=1MB", "--query.max-total-memory=2MB") as small:
        request = {"query": "count_values('time', vector(time()))", "start": "1000", "end": "2000", "step": "1"}
        answer = small.get("/api/v1/query_range", **request)
        assert (answer.status, answer.json()["errorType"]) == (422, "execution")
        assert re.fullmatch(r"query would take too much memory: \d+ bytes needed, 1048576 allowed", answer.json()["error"])
        assert small.get("/api/v1/query_range", **(request | {"end": "1100"})).status == 200
        wait_until(lambda: metric(small, "promlike_query_memory_bytes") == 0)


def test_a_timeout_of_a_millisecond_is_a_503(server: Server) -> None:
    for path in ("query", "query_range"):
        params = {"query": SLOW, "start": "0", "end": "10", "step": "1", "timeout": "1ms"}
        answer = server.get(f"/api/v1/{path}", **params)
        assert (answer.status, answer.headers["Content-Type"]) == (503, "application/json")
        assert re.fullmatch(r'\{"status":"error","errorType":"timeout","error":"query timed out in [a-z ]+"\}', answer.text)


def test_too_many_samples_are_a_422(server: Server) -> None:
    now = int(time.time())
    params = {"query": "sum_over_time(slow[1d:1s])", "start": str(now - 3600), "end": str(now), "step": "1"}
    answer = server.get("/api/v1/query_range", **params)
    assert (answer.status, answer.json()["errorType"]) == (422, "execution")
    assert answer.json()["error"].startswith("query processing would load too many samples into memory in query execution")


def test_a_large_answer_does_not_hold_up_others(server: Server) -> None:
    now = int(time.time())
    params = urlencode({"query": "slow * 1.1", "start": now - 7200, "end": now, "step": "1"})
    sizes: list[int] = []

    def fetch() -> None:
        answer = server.request("GET", f"/api/v1/query_range?{params}", headers={"Accept-Encoding": "gzip"})
        sizes.append(len(answer.body) if answer.status == 200 else -answer.status)

    thread = threading.Thread(target=fetch)
    thread.start()
    waits = []
    while thread.is_alive():
        started = time.monotonic()
        assert server.get("/-/healthy").status == 200
        waits.append(time.monotonic() - started)
    thread.join()
    assert sizes[0] > 1_000_000
    assert len(waits) >= 3
    assert max(waits) < 0.5


def test_its_metrics_are_good_and_carry_the_standard_names(server: Server) -> None:
    server.get("/api/v1/query", query="1")
    wait_until(lambda: "prometheus_target_interval_length_seconds_count" in server.get("/metrics").text)
    answer = server.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    checked = subprocess.run([require("promtool"), "check", "metrics"], input=answer.body, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    names = set(re.findall(r"^([a-z_]+)", answer.text, re.MULTILINE))
    for name in (
        *("build_info", "ready", "config_last_reload_successful", "config_last_reload_success_timestamp_seconds"),
        *("http_requests_total", "http_request_duration_seconds_bucket", "engine_queries", "engine_queries_concurrent_max"),
        *("tsdb_head_series", "tsdb_head_samples_appended_total", "tsdb_head_series_created_total", "tsdb_wal_corruptions_total"),
        *("target_scrape_pools_total", "target_sync_length_seconds_sum", "target_interval_length_seconds_count"),
    ):
        assert f"prometheus_{name}" in names
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_start_time_seconds", "process_open_fds"} <= names
    assert 'prometheus_engine_query_duration_seconds{quantile="0.9",slice="inner_eval"}' in answer.text


def test_life_cycle_calls(server: Server) -> None:
    before = metric(server, "prometheus_config_last_reload_success_timestamp_seconds")
    assert (server.request("POST", "/-/reload").status, metric(server, "prometheus_config_last_reload_successful")) == (200, 1)
    assert metric(server, "prometheus_config_last_reload_success_timestamp_seconds") >= before
