"""The query log, and what is said of queries that run and that ended."""

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from promlike.api.query_log import QueryLog
from promlike.api.running import Origin, RunningQueries, RunningQuery
from promlike.api.top_queries import MOST_CHARACTERS, MOST_QUERIES, TopQueries
from promlike.errors import ConfigError
from promlike.promql.options import Deadline
from tests.api.conftest import NOW_MS, Client
from tests.api.test_limits import wait_until
from tests.servers import free_port, promlike

ORIGIN = Origin(client_ip="127.0.0.1", method="GET", path="/api/v1/query", headers={})


def query(text: str, *, range_ms: int = 0, number: int = 1) -> RunningQuery:
    return RunningQuery(
        number=number, text=text, start_ms=1000, end_ms=1000 + range_ms, step_ms=0, origin=ORIGIN, deadline=Deadline.after(1)
    )


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_queries_are_logged_in_the_form_of_prometheus_and_a_reload_opens_the_file_again(tmp_path: Path) -> None:
    file, everywhere = tmp_path / "queries.log", free_port()
    with promlike(tmp_path, f"--web.listen-address=:{everywhere}", config=f"global:\n  query_log_file: {file}\n") as server:
        headers = {"X-Dashboard-Uid": "abc", "X-Panel-Id": "7", "X-Rule-Name": "r", "FromAlert": "true", "X-Other": "no"}
        assert server.request("GET", "/api/v1/query_range?query=up&start=1000&end=1060.5&step=15", headers=headers).status == 200
        assert server.get("/api/v1/query", query="1 +").status == 400
        wait_until(lambda: len(lines(file)) == 2)
        first, second = lines(file)
        assert first["params"] == {"end": "1970-01-01T00:17:40.500Z", "query": "up", "start": "1970-01-01T00:16:40.000Z", "step": 15}
        assert first["httpRequest"] == {
            "clientIP": "127.0.0.1",
            "method": "GET",
            "path": "/api/v1/query_range",
            "headers": {"X-Dashboard-Uid": "abc", "X-Panel-Id": "7", "FromAlert": "true", "X-Rule-Name": "r"},
        }
        timings = "evalTotalTime resultSortTime queryPreparationTime innerEvalTime execQueueTime execTotalTime".split()
        assert list(first["stats"]["timings"]) == timings  # type: ignore[index]  # JSON
        assert "stats" not in second
        assert "parse error" in str(second["error"])
        assert "prometheus_engine_query_log_enabled 1.0" in server.get("/metrics").text
        file.rename(tmp_path / "rotated.log")
        replace(server, port=everywhere).get("/api/v1/query", query="2")
        wait_until(lambda: len(lines(file)) == 1)
        assert lines(file)[0]["httpRequest"]["clientIP"] == "127.0.0.1"  # type: ignore[index]  # JSON
        (tmp_path / "promlike.yml").write_text("global: {}\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "prometheus_engine_query_log_enabled 0.0" in server.get("/metrics").text)
        server.get("/api/v1/query", query="3")
    assert len(lines(file)) == 1
    assert len(lines(tmp_path / "rotated.log")) == 2


def test_a_log_that_cannot_be_opened_changes_nothing(tmp_path: Path) -> None:
    log = QueryLog()
    log.open(str(tmp_path / "log"))
    with pytest.raises(ConfigError, match=r"query_log_file: cannot open .*/none/log: No such file or directory"):
        log.open(str(tmp_path / "none" / "log"))
    log.log(query("up"))
    log.close()
    log.close()
    assert len(lines(tmp_path / "log")) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    log = QueryLog()
    log.open("/dev/full")
    for _ in range(3):
        log.log(query("up"))
    log.close()
    assert log.failures == 3


def test_a_disk_that_hangs_costs_lines_and_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promlike.api.query_log.MOST_WAITING", 4)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = QueryLog()
    log.open(str(pipe))
    for number in range(200):
        log.log(query("x" * 10_000, number=number))
    assert log.failures > 100
    while log.failures and (got := _drain(reader)):
        assert got
    log.close()
    os.close(reader)


def _drain(reader: int) -> bytes:
    """What stands in the pipe, waiting a moment for more."""
    time.sleep(0.05)
    try:
        return os.read(reader, 1 << 20)
    except BlockingIOError:
        return b""


async def test_a_running_query_is_listed_until_it_ended(client: Client) -> None:
    assert (await client.get("status/active_queries"))["data"] == []
    await client.get("query", query="up")
    assert (await client.get("status/active_queries"))["data"] == []


async def test_queries_are_there_while_they_run_and_told_of_when_they_end() -> None:
    ended: list[RunningQuery] = []
    running = RunningQueries(ended.append)
    deadline = Deadline.after(5)
    with suppress(ValueError), running.run("up", start_ms=1, end_ms=2, step_ms=3, origin=ORIGIN, deadline=deadline) as one:
        assert list(running.all()) == [one]
        raise ValueError("no")
    assert (list(running.all()), ended, one.error, deadline.cancelled) == ([], [one], "no", True)


async def test_top_queries_count_texts_and_ranges_apart(client: Client) -> None:
    for _ in range(3):
        await client.get("query", query="up", time=str(NOW_MS // 1000))
    await client.get("query_range", query="up", start="0", end="60", step="15")
    data = (await client.get("status/top_queries", topN="1"))["data"]
    assert data["topByCount"] == [{"query": "up", "timeRangeSeconds": 0.0, "count": 3}]
    assert len(data["topBySumDuration"]) == len(data["topByAvgDuration"]) == 1
    assert len((await client.get("status/top_queries"))["data"]["topByCount"]) == 2
    assert (await client.get("status/top_queries", topN="0"))["code"] == 400


def test_only_the_newest_queries_within_a_time_count() -> None:
    clock = [0.0]
    top = TopQueries(lambda: clock[0])
    top.note(query("old"))
    clock[0] = 100.0
    for _ in range(2):
        top.note(query("x" * 2 * MOST_CHARACTERS))
    assert [(len(found.text), found.count) for found in top.of_last(50)] == [(MOST_CHARACTERS, 2)]
    assert len(top.of_last(200)) == 2
    for _ in range(MOST_QUERIES):
        top.note(query("many"))
    assert [(found.text, found.count) for found in top.of_last(200)] == [("many", MOST_QUERIES)]
