"""SQL over HTTP on a running server, in every kind of store: the examples of docs/sql.md, and statements that are ended."""

import json
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import IncompleteRead
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no type information
import pytest

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.servers import FORM, Response, Server, promlike, require
from tests.storage.postgres import postgresql, timescaledb

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs" / "sql.md").read_text().split("## Over HTTP")[1].split("\n## ")[0]
CURL = re.compile(r"^```\n(curl .*?)^```", re.MULTILINE | re.DOTALL)
JSON = re.compile(r"^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)

ENDLESS = "SELECT count(*) FROM generate_series(1, 1000000) AS a(x), generate_series(1, 1000000) AS b(y) WHERE x + y = 0"
LONG = "SELECT x, 'a long text that fills the buffers of everybody on the way' AS t FROM generate_series(1, 1000000) AS g(x)"
SOON_S = 30.0
"""Far less than what statements that are not ended would take, and enough for a busy machine."""


@pytest.fixture(scope="module", params=["duckdb", "plain", "timescaledb"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With `up` of two instances, flushed."""
    folder = tmp_path_factory.mktemp("server")
    if request.param == "duckdb":
        with serving(folder) as one:
            yield one
        return
    with (postgresql if request.param == "plain" else timescaledb)() as database, serving(folder, database.url("postgres")) as one:
        yield one


@contextmanager
def serving(folder: Path, url: str = "") -> Iterator[Server]:
    flags = ["--web.enable-sql-api", "--web.enable-admin-api", "--storage.flush-interval=1s", "--web.sql.max-rows=0"]
    config = f"global: {{query_log_file: {folder}/queries.log}}\n"
    with promlike(folder, *flags, *([f"--storage.url={url}"] if url else []), config=config) as one:
        request = WriteRequest()
        for instance in ("a", "b"):
            series = request.timeseries.add()
            for name, value in (("__name__", "up"), ("instance", instance), ("job", "api")):
                series.labels.add(name=name.encode(), value=value.encode())
            series.samples.add(timestamp=int(time.time() * 1000) - 1000, value=1.0)
        assert one.write(request).status == 204
        until(lambda: sql(one, "SELECT count(*) FROM metric.up").body.endswith(b'"rows":[[2]]}}'))
        yield one


def until(happened: Any) -> None:
    deadline = time.monotonic() + SOON_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sql(server: Server, query: str, **params: str) -> Response:
    return server.post("/api/v1/sql", query=query, **params)


def metric(server: Server, name: str) -> float:
    return next(float(line.split()[1]) for line in server.get("/metrics").text.splitlines() if line.startswith(f"{name} "))


def test_the_examples_of_the_page(server: Server, tmp_path: Path) -> None:
    require("curl")
    answers = []
    for example in CURL.findall(SECTION):
        command = [part.replace("http://localhost:9090", server.url) for part in shlex.split(example)]
        done = subprocess.run([*command, "-sS", "--fail-with-body"], capture_output=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, (example, done.stdout, done.stderr)
        answers.append(done.stdout)
    assert len(answers) == 4
    assert sorted(json.loads(answers[0])["data"]["rows"]) == [["a", 1], ["b", 1]]
    shown, found = (json.loads(text)["data"] for text in (JSON.findall(SECTION)[0], answers[1]))
    assert found["rows"] == shown["rows"]
    assert [column["name"] for column in found["columns"]] == [column["name"] for column in shown["columns"]]
    if "postgresql" in server.log:
        assert found == shown
    assert answers[2].startswith(b"time,instance,value\r\n20")
    assert answers[2].count(b"\r\n") == 3
    with pa.ipc.open_stream(tmp_path / "up.arrow") as stream:
        assert sorted(stream.read_all()["instance"].to_pylist()) == ["a", "b"]


def test_a_statement_takes_no_longer_than_it_may(server: Server) -> None:
    started = time.monotonic()
    answer = sql(server, ENDLESS, timeout="0.5")
    assert (answer.status, answer.json()["errorType"]) == (503, "timeout")
    assert time.monotonic() < started + SOON_S
    assert sql(server, "SELECT 1").status == 200


class Asking(threading.Thread):
    def __init__(self, server: Server, query: str) -> None:
        super().__init__(daemon=True)
        self.server, self.query = server, query
        self.answer: Response | None = None

    def run(self) -> None:
        self.answer = sql(self.server, self.query)


def active(server: Server) -> list[dict[str, Any]]:
    return [one for one in server.get("/api/v1/status/active_queries").json()["data"] if one["path"] == "/api/v1/sql"]


def test_statements_are_seen_and_ended_and_wait_for_their_turn(server: Server) -> None:
    asking = [Asking(server, f"{ENDLESS} AND {number} > 0") for number in range(1, 7)]
    for each in asking:
        each.start()
    until(lambda: len(active(server)) == 6)
    until(lambda: metric(server, "promlike_sql_statements") == 4)
    assert metric(server, "promlike_sql_statements_queued") == 2
    assert server.get("/api/v1/query", query="1").status == 200
    for one in active(server):
        assert one["query"].startswith("SELECT count(*)")
        assert server.post("/api/v1/admin/cancel_query", id=one["id"]).status == 204
    for each in asking:
        each.join(SOON_S)
        assert each.answer is not None
        assert (each.answer.status, each.answer.json()["errorType"]) == (503, "canceled")
    assert sql(server, "SELECT 1").status == 200
    assert "▕" not in server.log  # as DuckDB shows how far it is


def test_a_client_that_goes_away_ends_its_statement(server: Server) -> None:
    for query in (ENDLESS, LONG) * 3:
        with server.connection() as connection:
            connection.request("POST", "/api/v1/sql", urlencode({"query": query}), FORM)
            until(lambda: active(server))
            if query == LONG:
                answer = connection.getresponse()
                assert answer.read(1000)
                answer.close()
        until(lambda: not active(server))
    until(lambda: metric(server, "promlike_sql_statements") == 0)
    assert sql(server, "SELECT 1").status == 200


def test_a_client_that_does_not_read_is_cut_off(server: Server) -> None:
    """Its answer does not look whole."""
    with server.connection() as connection:
        connection.request("POST", "/api/v1/sql", urlencode({"query": LONG, "format": "csv", "timeout": "10s"}), FORM)
        answer = connection.getresponse()
        assert answer.status == 200
        until(lambda: not active(server))
        with answer, pytest.raises((ConnectionError, IncompleteRead)):
            answer.read()


def test_an_error_amid_an_answer_cuts_it(server: Server) -> None:
    late = "SELECT CAST(CASE WHEN x = 2000000 THEN 'x' ELSE '1' END AS integer) AS v FROM generate_series(1, 2000000) AS g(x)"
    with server.connection() as connection:
        connection.request("POST", "/api/v1/sql", urlencode({"query": late, "format": "csv"}), FORM)
        with connection.getresponse() as answer:
            if answer.status == 422:
                return  # PostgreSQL had all rows before it sent the first
            with pytest.raises((ConnectionError, IncompleteRead)):
                answer.read()


def test_statements_are_logged_and_counted(server: Server) -> None:
    sent = metric(server, "promlike_sql_rows_total")
    text = "SELECT x AS logged FROM generate_series(1, 5) AS g(x)"
    assert sql(server, text).status == 200
    assert sql(server, "SELECT nosuch AS logged").status == 400
    assert metric(server, "promlike_sql_rows_total") == sent + 5
    log = server.log_file.parent / "queries.log"
    until(lambda: log.read_text().count("AS logged") == 2)
    good, bad = [json.loads(line) for line in log.read_text().splitlines() if "AS logged" in line]
    assert (good["params"]["query"], good["httpRequest"]["path"], good["stats"]["rows"]) == (text, "/api/v1/sql", 5)
    assert "nosuch" in bad["error"]
    top = server.get("/api/v1/status/top_queries").json()["data"]
    assert text in [query["query"] for query in top["topByCount"]]


def test_samples_come_in_while_statements_run(server: Server) -> None:
    asking = [Asking(server, f"{ENDLESS} AND {number} > 1") for number in range(2, 6)]
    for each in asking:
        each.start()
    until(lambda: len(active(server)) == 4)
    request = WriteRequest()
    series = request.timeseries.add()
    series.labels.add(name=b"__name__", value=b"late_metric")
    series.samples.add(timestamp=int(time.time() * 1000), value=1.0)
    assert server.write(request).status == 204
    assert server.get("/api/v1/query", query="late_metric").json()["data"]["result"]
    for one in active(server):
        server.post("/api/v1/admin/cancel_query", id=one["id"])
    until(lambda: sql(server, "SELECT count(*) FROM metric.late_metric").status == 200)
    for each in asking:
        each.join(SOON_S)


def test_without_the_flag_nothing_is_answered(tmp_path: Path) -> None:
    with promlike(tmp_path) as plain:
        answer = sql(plain, "SELECT 1")
        assert (answer.status, answer.json()["errorType"]) == (503, "unavailable")
        assert "--web.enable-sql-api" in answer.json()["error"]
        assert plain.get("/api/v1/features").json()["data"]["api"]["sql"] is False
