"""Clients that were written for Prometheus: promtool's queries, and the Python package prometheus-api-client."""

import json
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import snappy  # type: ignore[import-untyped]  # python-snappy ships no type information
from prometheus_api_client import PrometheusConnect

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.servers import REMOTE_WRITE, Server, free_port, promlike_command, require, running

PREFIX = "/deep/prefix"
NOW = int(time.time()) // 15 * 15
BUCKETS = ("0.1", "1", "+Inf")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`hits_total` of two jobs and a histogram, under a prefix, as a reverse proxy would have it."""
    request = WriteRequest()
    wanted = [({"__name__": "hits_total", "job": job}, step) for job, step in (("api", 15), ("web", 30))]
    wanted += [({"__name__": "wait_seconds_bucket", "job": "api", "le": le}, step) for step, le in enumerate(BUCKETS, 1)]
    for labels, step in wanted:
        series = request.timeseries.add()
        for name, value in labels.items():
            series.labels.add(name=name.encode(), value=value.encode())
        for number in range(41):
            series.samples.add(timestamp=(NOW - 600 + number * 15) * 1000, value=number * step)
    folder, port = tmp_path_factory.mktemp("clients"), free_port()
    command = promlike_command(folder, port, f"--web.external-url=http://example.org{PREFIX}")
    with running("promlike", command, port=port, folder=folder, ready=f"{PREFIX}/-/ready") as one:
        answer = one.request("POST", f"{PREFIX}/api/v1/write", snappy.compress(request.SerializeToString()), REMOTE_WRITE)
        assert answer.status == 204
        yield one


@pytest.fixture
def client(server: Server) -> PrometheusConnect:
    return PrometheusConnect(url=f"{server.url}{PREFIX}")


def promtool(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    command, kind, *rest = words
    options = [word for word in rest if word.startswith("-")]
    others = [word for word in rest if not word.startswith("-")]
    url = f"{server.url}{PREFIX}"
    return subprocess.run([require("promtool"), command, kind, *options, url, *others], capture_output=True, text=True, check=False)


def told(server: Server, *words: str) -> Any:
    done = promtool(server, "query", words[0], "--format=json", *words[1:])
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_promtool_instant(server: Server) -> None:
    assert told(server, "instant", f"--time={NOW}", "hits_total") == [
        {"metric": {"__name__": "hits_total", "job": "api"}, "value": [NOW, "600"]},
        {"metric": {"__name__": "hits_total", "job": "web"}, "value": [NOW, "1200"]},
    ]
    assert promtool(server, "query", "instant", f"--time={NOW}", "sum(hits_total)").stdout == f"{{}} => 1800 @[{NOW}]\n"


def test_promtool_range(server: Server) -> None:
    found = told(server, "range", f"--start={NOW - 60}", f"--end={NOW}", "--step=30s", "hits_total{job='api'}")
    assert [(one["metric"]["job"], one["values"]) for one in found] == [("api", [[NOW - 60, "540"], [NOW - 30, "570"], [NOW, "600"]])]


def test_promtool_series_and_labels(server: Server) -> None:
    done = promtool(server, "query", "series", "--match=hits_total", f"--start={NOW - 600}", f"--end={NOW}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ['{__name__="hits_total", job="api"}', '{__name__="hits_total", job="web"}']
    assert promtool(server, "query", "labels", "job").stdout.split() == ["api", "web"]


def test_promtool_tells_of_errors(server: Server) -> None:
    done = promtool(server, "query", "instant", "sum(")
    assert done.returncode != 0
    assert 'query error: bad_data: invalid parameter "query": 1:5: parse error: unclosed left parenthesis' in done.stderr


def test_promtool_analyze(server: Server) -> None:
    options = ("--type=histogram", "--duration=10m", f"--time={NOW}", "--match=wait_seconds_bucket")
    done = subprocess.run(
        [require("promtool"), "query", "analyze", f"--server={server.url}{PREFIX}", *options], capture_output=True, text=True, check=False
    )
    if "expected command but got" in done.stderr:
        pytest.skip("this promtool is older than `query analyze`")
    assert done.returncode == 0, done.stderr
    assert "job" in done.stdout


def test_the_python_client_connects_and_lists(client: PrometheusConnect) -> None:
    assert client.check_prometheus_connection() is True
    assert client.all_metrics() == ["hits_total", "wait_seconds_bucket"]
    assert client.get_label_values("job") == ["api", "web"]


def test_the_python_client_queries(client: PrometheusConnect) -> None:
    assert client.custom_query("sum(hits_total)", params={"time": NOW})[0]["value"] == [NOW, "1800"]
    assert client.get_current_metric_value("hits_total", label_config={"job": "web"}, params={"time": NOW})[0]["value"][1] == "1200"
    end = datetime.fromtimestamp(NOW, UTC)
    found = client.custom_query_range("hits_total{job='api'}", end - timedelta(seconds=30), end, "15")
    assert [value for _, value in found[0]["values"]] == ["570", "585", "600"]
    raw = client.get_metric_range_data("hits_total", {"job": "api"}, end - timedelta(seconds=60), end, chunk_size=timedelta(seconds=30))
    assert sorted(float(value) for chunk in raw for _, value in chunk["values"])[-1] == 600
    maximum = client.get_metric_aggregation("hits_total{job='api'}", ["max", "min"], end - timedelta(seconds=30), end, "15")
    assert maximum == {"max": 600.0, "min": 570.0}
