"""What Grafana's Prometheus data source asks, as it asks it: behind a prefix, with POST bodies beside URL parameters."""

import gzip
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
import snappy  # type: ignore[import-untyped]  # python-snappy ships no type information

from promlike.api.openapi_parts import Operation
from promlike.api.openapi_table import OPERATIONS
from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.servers import FORM, REMOTE_WRITE, Response, Server, free_port, promlike_command, running

PREFIX = "/some/prometheus"
NOW = int(time.time()) // 60 * 60
COUNTER = 1  # of the metric types of remote write 1.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """3000 metrics, one with a dotted label."""
    folder, port = tmp_path_factory.mktemp("grafana"), free_port()
    command = promlike_command(folder, port, "--web.enable-sql-api", f"--web.external-url=http://grafana.example.org{PREFIX}")
    with running("promlike", command, port=port, folder=folder, ready=f"{PREFIX}/-/ready") as one:
        assert write(one).status == 204
        yield one


def write(server: Server) -> Response:
    request = WriteRequest()
    for number in range(3000):
        series = request.timeseries.add()
        series.labels.add(name=b"__name__", value=b"metric_%04d" % number)
        series.labels.add(name=b"http.method", value=b"GET" if number % 2 else b"<POST>")
        series.labels.add(name=b"job", value=b"api")
        for age in (60, 45, 30, 15, 0):
            series.samples.add(timestamp=(NOW - age) * 1000, value=float(number))
    request.metadata.add(type=COUNTER, metric_family_name=b"metric_0001", help=b"The first.", unit=b"bytes")
    return server.request("POST", f"{PREFIX}/api/v1/write", snappy.compress(request.SerializeToString()), REMOTE_WRITE)


def post(server: Server, path: str, /, **form: object) -> Response:
    return server.request("POST", f"{PREFIX}/api/v1/{path}", urlencode(form, doseq=True).encode(), FORM)


def get(server: Server, path: str, /, **params: object) -> Response:
    return server.request("GET", f"{PREFIX}/api/v1/{path}?{urlencode(params, doseq=True)}")


def test_save_and_test_is_green_with_post_and_get(server: Server) -> None:
    for answer in (post(server, "query", query="1+1", time=4), get(server, "query", query="1+1", time=4)):
        assert answer.status == 200
        assert answer.text == '{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}'


def test_build_info_is_that_of_a_prometheus(server: Server) -> None:
    info = get(server, "status/buildinfo").json()["data"]
    assert int(info["version"].split(".")[0]) >= 3
    assert all(isinstance(value, str) for value in info.values())
    assert all(isinstance(value, str) for value in info.get("features", {}).values())


def test_a_panel_posts_a_range_query_with_statistics_in_the_url(server: Server) -> None:
    form = {"query": "metric_0001", "start": f"{NOW - 30}.000", "end": f"{NOW}.000", "step": "15", "timeout": "30s"}
    answer = post(server, "query_range?stats=all&max_samples_processed_warning_threshold=5", **form)
    assert answer.text.startswith('{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"metric_0001",')
    data = answer.json()["data"]
    assert data["result"][0]["values"] == [[NOW - 30, "1"], [NOW - 15, "1"], [NOW, "1"]]
    assert data["stats"]["samples"]["totalQueryableSamples"] == 3
    assert get(server, "query_range", **form, stats="all").json()["data"]["result"] == data["result"]


def test_a_table_posts_an_instant_query_off_every_grid(server: Server) -> None:
    data = post(server, "query", query='{__name__="metric_0002"}', time=f"{NOW}.123").json()["data"]
    assert data["resultType"] == "vector"
    assert data["result"][0]["value"] == [NOW + 0.123, "2"]


def test_an_empty_result_is_a_list(server: Server) -> None:
    assert post(server, "query", query="none").text == '{"status":"success","data":{"resultType":"vector","result":[]}}'
    for path in ("series?match[]=none", "labels?match[]=none", "label/none/values", "rules", "alerts"):
        assert "null" not in server.request("GET", f"{PREFIX}/api/v1/{path}").text


def test_the_exemplar_probe_in_milliseconds_succeeds(server: Server) -> None:
    form = {"query": "test", "start": NOW * 1000 - 1_800_000, "end": NOW * 1000}
    for answer in (post(server, "query_exemplars", **form), get(server, "query_exemplars", **form)):
        assert (answer.status, answer.json()) == (200, {"status": "success", "data": []})


def test_rules_and_alerts(server: Server) -> None:
    assert get(server, "rules").json()["data"] == {"groups": []}
    assert get(server, "rules", **{"type": "alert", "rule_name": "a", "rule_name[]": "a", "exclude_alerts": "true"}).status == 200
    assert get(server, "alerts").json()["data"] == {"alerts": []}


def test_metadata_with_its_default_limit(server: Server) -> None:
    for params in ({"limit": 40000}, {"metric": "metric_0001"}, {"limit": 40000, "metric": "metric_0001"}):
        data = get(server, "metadata", **params).json()["data"]
        assert data == {"metric_0001": [{"type": "counter", "help": "The first.", "unit": "bytes"}]}


def test_the_metric_browser_lists_names_up_to_its_limit(server: Server) -> None:
    span = {"start": NOW - 3600, "end": NOW}
    names = get(server, "label/__name__/values", **span, limit=40000).json()
    assert names["data"] == [f"metric_{number:04d}" for number in range(3000)]
    assert "warnings" not in names
    few = get(server, "label/__name__/values", **span, limit=1000).json()
    assert few["data"] == names["data"][:1000]
    assert few["warnings"] == ["results truncated due to limit"]
    found = get(server, "label/__name__/values", **span, limit=1000, **{"match[]": '{__name__=~".*_299.*"}'}).json()
    assert found["data"] == [f"metric_299{number}" for number in range(10)]


def test_label_names_for_completion(server: Server) -> None:
    form = {"start": NOW - 3600, "end": NOW, "limit": 1000, "match[]": '{__name__="metric_0001"}'}
    for answer in (post(server, "labels", **form), get(server, "labels", **form)):
        assert answer.json()["data"] == ["__name__", "http.method", "job"]


def test_label_values_of_a_dotted_name_with_post_and_get(server: Server) -> None:
    for selector, values in (("{job='api'}", ["<POST>", "GET"]), ("metric_0001", ["GET"])):
        form = {"start": NOW - 3600, "end": NOW, "match[]": selector}
        for answer in (get(server, "label/U__http_2e_method/values", **form), post(server, "label/U__http_2e_method/values", **form)):
            assert answer.json()["data"] == values


def test_series_for_old_settings_and_bare_selectors(server: Server) -> None:
    form = {"match[]": ["metric_0000", "metric_0001"], "start": NOW - 3600, "end": NOW, "limit": 40000}
    for answer in (post(server, "series", **form), get(server, "series", **form)):
        assert answer.json()["data"] == [
            {"__name__": "metric_0000", "http.method": "<POST>", "job": "api"},
            {"__name__": "metric_0001", "http.method": "GET", "job": "api"},
        ]


@pytest.mark.parametrize(
    ("form", "status", "kind", "text"),
    [
        ({"query": "sum("}, 400, "bad_data", 'invalid parameter "query": 1:5: parse error: unclosed left parenthesis'),
        ({"query": 'metric_0001 * on (job) {job="api"}'}, 422, "execution", "found duplicate series for the match group"),
        ({"query": '{job="api"}', "timeout": "0"}, 503, "timeout", "query timed out in "),
    ],
)
def test_errors_are_envelopes_that_grafana_shows(server: Server, form: dict[str, str], status: int, kind: str, text: str) -> None:
    answer = post(server, "query", time=NOW, **form)
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json")
    envelope = answer.json()
    assert list(envelope) == ["status", "errorType", "error"]
    assert (envelope["status"], envelope["errorType"]) == ("error", kind)
    assert envelope["error"].startswith(text)


@pytest.mark.parametrize("offered", ["gzip", "gzip, deflate, br, zstd"])
def test_bodies_are_compressed_with_gzip_only(server: Server, offered: str) -> None:
    answer = server.request("GET", f"{PREFIX}/api/v1/label/__name__/values", headers={"Accept-Encoding": offered})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(answer.body))["data"]) == 3000


def test_everything_stands_under_the_prefix(server: Server) -> None:
    for path in ("/-/healthy", "/-/ready", "/metrics", "/version", "/"):
        assert server.get(PREFIX + path).status == 200
    assert server.get("/-/ready").status == 404
    for path in ("", PREFIX):
        answer = server.get(path or "/")
        assert (answer.status, answer.headers["Location"]) == (302, f"{PREFIX}/")
    assert get(server, "label/job/values").status == 200
    assert 'handler="/api/v1/label/:name/values"' in server.get(f"{PREFIX}/metrics").text


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one.methods.startswith("GET")], ids=lambda one: one.path)
def test_every_endpoint_stands_under_the_prefix_alone(server: Server, operation: Operation) -> None:
    path = operation.path.replace("{name}", "job")
    if operation.path == "/api/v1/notifications/live":
        return  # has no end
    assert server.get(PREFIX + path).status in (200, 400)
    if path != "/":
        assert server.get(path).status == 404


@pytest.mark.parametrize(
    "flag", ["--web.external-url=http://example.org/%C3%A9%20x/", "--web.external-url=/%C3%A9%20x", "--web.route-prefix=/é x"]
)
def test_a_prefix_may_have_any_letters(tmp_path: Path, flag: str) -> None:
    port = free_port()
    with running("promlike", promlike_command(tmp_path, port, flag), port=port, folder=tmp_path, ready="/%C3%A9%20x/-/ready") as one:
        assert one.get("/%C3%A9%20x/api/v1/query", query="1", time="4").status == 200
        assert one.request("OPTIONS", "/%C3%A9%20x/api/v1/query", headers={"Origin": "a"}).headers["Access-Control-Allow-Origin"] == "*"
        assert one.get("/").headers["Location"] == "/%C3%A9%20x/"
        assert 'handler="/api/v1/query"' in one.get("/%C3%A9%20x/metrics").text


def test_a_prefix_that_is_a_pattern_is_refused(tmp_path: Path) -> None:
    command = promlike_command(tmp_path, free_port(), "--web.external-url=http://example.org/{x}")
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (2, "promlike: the route prefix '{x}' has one of the characters { } ? #\n")


def test_an_alert_rule_of_grafana_asks_for_an_instant(server: Server) -> None:
    """With headers that say which rule it is, and the answer reduced to one number by Grafana itself."""
    headers = {**FORM, "FromAlert": "true", "X-Rule-Uid": "abc", "X-Rule-Folder": "f%C3%BC", "X-Grafana-Org-Id": "1", "X-Grafana-User": "a"}
    body = urlencode({"query": 'count(metric_0002{job="api"}) > 0', "time": f"{NOW}.5", "timeout": "30s"}).encode()
    data = server.request("POST", f"{PREFIX}/api/v1/query", body, headers).json()["data"]
    assert data == {"resultType": "vector", "result": [{"metric": {}, "value": [NOW + 0.5, "1"]}]}


@pytest.mark.parametrize(
    ("offered", "coding"),
    [
        ("br", None),
        ("deflate", None),
        ("zstd", None),
        ("zstd, br;q=1.0, deflate", None),
        ("identity", None),
        ("", None),
        ("gzip;q=0", None),
        ("gzip; q=0.000", None),
        ("GZIP", "gzip"),
        ("br, gzip;q=0.1", "gzip"),
        ("*", "gzip"),
        ("*;q=0, gzip", "gzip"),
        ("gzip;q=0, *", None),
        ("gzip ; q=0", None),
        ("x-gzip", None),
    ],
)
def test_no_other_coding_is_ever_sent(server: Server, offered: str, coding: str | None) -> None:
    for path in ("label/__name__/values", "query?query=metric_0001", "status/config"):
        answer = server.request("GET", f"{PREFIX}/api/v1/{path}", headers={"Accept-Encoding": offered})
        assert answer.status == 200
        assert answer.headers.get("Content-Encoding") in (coding, None)
    names = server.request("GET", f"{PREFIX}/api/v1/label/__name__/values", headers={"Accept-Encoding": offered})
    assert names.headers.get("Content-Encoding") == coding
    assert names.headers["Vary"] == "Accept-Encoding"
