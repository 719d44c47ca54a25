"""The same requests to a real Prometheus and to promlike: the same status, content type and body, byte for byte."""

import json
import time
from collections.abc import Iterator, Mapping
from urllib.parse import quote, urlencode

import pytest

from tests.differential import data, pair
from tests.differential.pair import Pair
from tests.servers import FORM, Response, Server, prometheus, promlike

CONFIG = """
global: {scrape_interval: 1d, evaluation_interval: 20s}
scrape_configs:
  - job_name: kept
    static_configs: [{targets: ["example.org:1"], labels: {team: a}}]
  - job_name: dropped
    static_configs: [{targets: ["example.org:1"]}]
    relabel_configs: [{action: drop, source_labels: [job], regex: dropped}]
"""
"""No scrape falls into the time of a test."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    end_ms = int(time.time()) // 60 * 60_000
    requests = pair.write_requests(data.build(end_ms))
    with (
        prometheus(tmp_path_factory.mktemp("theirs"), "--enable-feature=promql-per-step-stats", config=CONFIG) as theirs,
        promlike(tmp_path_factory.mktemp("ours"), config=CONFIG) as ours,
    ):
        pair.send(ours, requests)
        pair.send(theirs, requests)
        while not theirs.get("/api/v1/targets").json()["data"]["activeTargets"]:
            time.sleep(0.2)  # Prometheus hands out targets five seconds after its start
        yield Pair(ours=ours, theirs=theirs, end_ms=end_ms)


def shown(response: Response) -> tuple[int, str | None, str]:
    return response.status, response.headers.get("Content-Type"), response.text


def ask(server: Server, method: str, path: str, params: str, headers: Mapping[str, str] | None = None) -> Response:
    if method == "POST":
        return server.request("POST", path, params.encode(), {**FORM, **(headers or {})})
    return server.request(method, f"{path}?{params}" if params else path, headers=headers)


def assert_same(both: Pair, path: str, params: str, methods: str = "GET POST") -> None:
    for method in methods.split():
        ours, theirs = (shown(ask(server, method, path, params)) for server in (both.ours, both.theirs))
        assert ours == theirs, f"{method} {path} {params}"


GOOD_TIMES = (
    "0 -1 1e9 1.5 -1.5 1.0005 1.00049 1.0015 5e-4 2.5e-4 +5 .5 5. 1E3 1_000 0x1p4 9.2e9 1e-400 1435781451.7815 1435781451.7814999 "
    "2015-07-01T20:10:51.781Z 2015-07-01T20:10:51Z 2015-07-01T20:10:51+02:00 2015-07-01T20:10:51.123456789Z 2015-07-01T20:10:51,5Z "
    "1969-12-31T23:59:59.250Z 2015-07-01T20:10:51.7819Z 2015-07-01T20:10:51.5+24:00"
).split()
BAD_TIMES = [
    *"x 0x10 1e400 1__0 2015-07-01T20:10:51 2015-07-01 2015-13-01T20:10:51Z 2015-02-30T20:10:51Z 2015-07-01t20:10:51z".split(),
    *('"', "<a>&", "ü", "\0", " 1", "1 ", "2015-07-01 20:10:51Z", "2015-07-01T24:10:51Z", "2015-07-01T20:10:60Z", "line\nbreak"),
]


@pytest.mark.parametrize("text", [*GOOD_TIMES, *BAD_TIMES])
def test_times(both: Pair, text: str) -> None:
    for query in ("time()", "vector(1)", '"text"'):
        assert_same(both, "/api/v1/query", urlencode({"query": query, "time": text}))
    assert_same(both, "/api/v1/query_range", urlencode({"query": "time()", "start": text, "end": text, "step": "15"}))
    assert_same(both, "/api/v1/query_exemplars", urlencode({"query": "test", "start": "-5", "end": text}))
    if text in BAD_TIMES:
        assert_same(both, "/api/v1/series", urlencode({"match[]": "constant", "start": text}))
        assert_same(both, "/api/v1/labels", urlencode({"end": text}))
        assert_same(both, "/api/v1/label/job/values", urlencode({"end": text}), "GET")


DURATIONS = (
    "0 -1 15 15s 1m30s 1h 1.5 0.0005 1.0006 0.9996 1e1 Inf -Inf 1e30 9223372036.9 -5m 1y 300y 1w2d x 1.5m 1ms 0x10 <5> 5mm 1s1m 1d1d 0s 1M"
).split()


@pytest.mark.parametrize("text", ["", "NaN", *DURATIONS])
def test_steps(both: Pair, text: str) -> None:
    start = both.end_ms / 1000 - 180
    for end in (start + 60, start):
        if text == "0.0005" and end == start:
            continue  # Prometheus takes a step below a millisecond for "no step" there
        assert_same(both, "/api/v1/query_range", urlencode({"query": "time()", "start": f"{start:.3f}", "end": f"{end:.3f}", "step": text}))


@pytest.mark.parametrize("text", ["", "5", "1m", "x", "Inf", "1e30", "<5>", "5mm", "9223372036.9", "1 "])
def test_timeouts(both: Pair, text: str) -> None:
    for path in ("query", "query_range"):
        grid = {"start": "0", "end": "5", "step": "5", "time": "5"}
        assert_same(both, f"/api/v1/{path}", urlencode({"query": "1", "timeout": text, **grid}))


@pytest.mark.parametrize(
    "params",
    [
        "start=5&end=4&step=1",
        "start=0&end=11000&step=1",
        "start=0&end=11001&step=1",
        "start=0&end=11000.5&step=1",
        "start=5&end=5&step=1h",
        "start=0&end=10.9&step=5",
        "start=x&end=y&step=z",
        "start=1&end=y&step=z",
        "start=1&end=2&step=z",
        "start=1&end=2",
        "start=1",
        "",
    ],
)
def test_grids(both: Pair, params: str) -> None:
    assert_same(both, "/api/v1/query_range", f"query=time()&{params}")


def test_urls_and_bodies(both: Pair) -> None:
    def same(method: str, path: str, body: str | None = None, content_type: str = "application/x-www-form-urlencoded") -> None:
        headers = {"Content-Type": content_type} if body is not None else {}
        answers = [
            shown(server.request(method, path, None if body is None else body.encode(), headers)) for server in (both.ours, both.theirs)
        ]
        assert answers[0] == answers[1], (method, path, body)

    query = "/api/v1/query"
    for url in ("", "?query=2&time=5&query=7", "?query=2;time=5", "?query=1%zz&time=5", "?query=%ff&time=5", "?time=5&query"):
        same("GET", query + url)
    for url in ("?query=1&time=5&time=6", "?query=1+1&time=5", "?query=1%2B1&time=5", "?query=1&time=4&unknown=x", "?Query=1"):
        same("GET", query + url)
    for body in ("", "query=1&time=4", "query=2;time=5", "query=1%zz&time=5", "query=%ff&time=5", "=&&=", "query"):
        same("POST", query, body)
    same("POST", f"{query}?query=2&time=5", "query=1&time=4")
    same("POST", f"{query}?query=2&time=5&query=7", "time=4")
    same("POST", f"{query}?query=2&time=5", "query=1", "text/plain")
    same("POST", query, "query=1&time=4", "text/plain")
    same("POST", query, '{"query":"1"}', "application/json")
    for name in ('name="query"', "name=query"):
        parts = (f"{name}\r\n\r\n1", 'name="time"\r\n\r\n4')
        body = "".join(f"--b\r\nContent-Disposition: form-data; {part}\r\n" for part in parts) + "--b--\r\n"
        same("POST", query, body, "multipart/form-data; boundary=b")
    for url in ("?match[]=constant;x=1", "?a;b&match[]=constant", "?match[]=constant&a=%zz", "", "?match[]="):
        same("GET", f"/api/v1/series{url}")


QUERIES = [
    *("", " ", "# c", "up{", "sum(", "rate(up)", "rate(up[5m]", "1 +", "up[5m]", '"a"', "<>&", "sum by <x> (y)", "up and on(a) 1"),
    *("nonexist()", "1 == 2", "up @ x", '{__name__="a",__name__="b"}', 'a{__name__="b"}', 'topk("a",up)', "up[1h:", "up{,}", "ü"),
    *('label_replace(up,"a","","b","(")', 'count_values("",up)', 'time() + "x"', 'foo{ü="a"}', "up[1d1d]", "up[0s]", "NaN", "-Inf"),
    *("{}", '{a=""}', '{a=~".*"}', "1 > 2", 'up{a="b",}', "sum(up) by (a", "histogram_quantile(1,1)", "group_left(up)", "1 > bool 2"),
    *(
        'foo{a=~"*"}',
        'foo{a=~"[z-a]"}',
        'foo{a=~"a**"}',
        'foo{a=~"a{1001}"}',
        "memory_bytes",
        'words{path="/usr"}',
        "sum(up)[5m:1m]",
        "sum(up)[3m:]",
    ),
    *("count_over_time(up[3m:])", "sum_over_time(time()[2m:] offset 1m)", "max_over_time(rate(http_requests_total[1m])[5m:])"),
    *("sort(up)", "odd_values", "tiny", "huge * 1e3", "-tiny", "1e-7", "1e21", "123456789012345678", "0.1+0.2", "vector(-0)", "1/3"),
]


@pytest.mark.parametrize("query", QUERIES)
def test_queries(both: Pair, query: str) -> None:
    at = both.end_ms / 1000 - 60.063
    assert_same(both, "/api/v1/query", urlencode({"query": query, "time": f"{at:.3f}"}))
    if query not in ("1e-7", "1e21", "123456789012345678"):  # Prometheus 2 prints them with exponents
        assert_same(both, "/api/v1/format_query", urlencode({"query": query}))
    grid = {"start": f"{at - 100:.3f}", "end": f"{at:.3f}", "step": "20"}
    ours, theirs = (ask(server, "POST", "/api/v1/query_range", urlencode({"query": query, **grid})) for server in (both.ours, both.theirs))
    # Since 2.43 this endpoint, too, says which parameter an error is about.
    assert shown(ours)[:2] == shown(theirs)[:2]
    if not query.startswith("sort"):  # since 2.49 a range query warns of it
        assert ours.text.replace('invalid parameter \\"query\\": ', "") == theirs.text


SELECTORS = [
    *("up", '{job="api"}', '{__name__="up"}', 'up{job="api"}', '{job!=""}', 'zone_info{version=~"v1.[01]"}', "words", "nothing", "sum"),
    *("", "{}", "up{", '{a=""}', '{a=~".*"}', "1", '"a"', "sum(up)", "(up)", "-up", "rate(up[5m])", "up[5m]", "up offset 5m"),
    *('up{job="api"} or up', "<>", "up up", "up{} {}", '{job="a"', "up,", 'up{job="a",,}', "by", "{job=1}", 'sum{job="api"}', "# c"),
]


@pytest.mark.parametrize("selector", SELECTORS)
def test_selectors(both: Pair, selector: str) -> None:
    params = urlencode({"match[]": selector})
    assert_same(both, "/api/v1/series", params)
    assert_same(both, "/api/v1/labels", params)
    for label in ("job", "__name__", "none"):
        assert_same(both, f"/api/v1/label/{label}/values", params, "GET")


@pytest.mark.parametrize("selectors", [["up", "constant"], ['{job="api"}', '{job="web"}'], ["up", "up"], ["up", "{}"], ["up", "up{"]])
def test_several_selectors(both: Pair, selectors: list[str]) -> None:
    params = urlencode({"match[]": selectors}, doseq=True)
    for path in ("series", "labels"):
        assert_same(both, f"/api/v1/{path}", params)
    assert_same(both, "/api/v1/label/instance/values", params, "GET")


@pytest.mark.parametrize(
    "path",
    [
        *("series", "labels", "metadata?limit=x", "metadata?limit=-1", "metadata?metric=nothing", "rules", "rules?type=x"),
        *("rules?type=alert", "rules?type=Record", "alerts", "alertmanagers", "scrape_pools", "query_exemplars", "format_query"),
        *("targets/metadata", "targets/metadata?limit=x", "targets/metadata?match_target={", "targets/metadata?metric=nothing"),
        *("label/job/values", "label/none/values", "labels?start=&end=", "label/job/values?start=1&start=x", "nothing", ""),
        *("query_exemplars?query=up&start=5&end=4", "query_exemplars?query=up{&start=5&end=6", "query_exemplars?query=up&start=1&end=2"),
    ],
)
def test_other_endpoints(both: Pair, path: str) -> None:
    assert_same(both, f"/api/v1/{path}", "", "GET")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *((method, "/api/v1/query") for method in ("HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")),
        *((method, "/-/ready") for method in ("GET", "HEAD", "POST", "OPTIONS")),
        *((method, "/-/reload") for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS")),
        *((method, "/api/v1/metadata") for method in ("HEAD", "POST", "OPTIONS")),
        *((method, "/metrics") for method in ("POST", "OPTIONS")),
        *((method, "/nothing") for method in ("GET", "HEAD", "POST", "OPTIONS")),
        *(("GET", path) for path in ("//api/v1/query?query=1", "/api/v1/../v1/query?query=1&time=1", "/-/healthy", "/-/quit")),
        *(("GET", path) for path in ("/api/v1/label/job", "/api/v1/admin/tsdb/snapshot", "/api/v1/write", "/api/v1/status/nothing")),
    ],
)
def test_methods_and_paths(both: Pair, method: str, path: str) -> None:
    ours, theirs = (server.request(method, path) for server in (both.ours, both.theirs))
    names = ("Allow", "Location", "X-Content-Type-Options", *(("Content-Type",) if theirs.body else ()))
    assert ours.status == theirs.status
    assert {name: ours.headers.get(name) for name in names if not theirs.headers.get("Location") or name == "Location"} == {
        name: theirs.headers.get(name) for name in names if not theirs.headers.get("Location") or name == "Location"
    }
    if theirs.status != 301:
        assert ours.body == theirs.body


@pytest.mark.parametrize("origin", ["http://example.org", "", "null"])
@pytest.mark.parametrize("path", ["/api/v1/query?query=1", "/api/v1/query?query=((", "/-/healthy", "/api/v1/nothing", "/metrics"])
def test_cross_origin_headers(both: Pair, origin: str, path: str) -> None:
    for method in ("GET", "OPTIONS"):
        answers = [server.request(method, path, headers={"Origin": origin}) for server in (both.ours, both.theirs)]
        sent = [{name: value for name, value in answer.headers.items() if name.startswith("Access-")} for answer in answers]
        assert (answers[0].status, sent[0]) == (answers[1].status, sent[1])


@pytest.mark.parametrize("coding", ["gzip", "gzip, deflate", "zstd", "br", "gzip;q=0", "identity", "zstd, gzip", " gzip"])
def test_content_codings(both: Pair, coding: str) -> None:
    path = "/api/v1/series?match[]=" + quote('{job!=""}')
    ours, theirs = (server.request("GET", path, headers={"Accept-Encoding": coding}) for server in (both.ours, both.theirs))
    assert ours.headers.get("Content-Encoding") == theirs.headers.get("Content-Encoding")


def test_statistics(both: Pair) -> None:
    at = both.end_ms // 1000 - 120
    for text in ("true", "all", "x"):
        for path in ("query", "query_range"):
            params = {"query": "sum(rate(http_requests_total[5m]))", "time": at, "start": at - 40, "end": at, "step": 20, "stats": text}
            ours, theirs = (ask(server, "POST", f"/api/v1/{path}", urlencode(params)).json()["data"] for server in (both.ours, both.theirs))
            assert list(ours) == list(theirs) == ["resultType", "result", "stats"]
            assert list(ours["stats"]["timings"]) == list(theirs["stats"]["timings"])
            since_3_13 = ("samplesRead", "samplesReadPerStep")
            assert [name for name in ours["stats"]["samples"] if name not in since_3_13] == list(theirs["stats"]["samples"])
            assert ours["stats"]["samples"]["samplesRead"] <= ours["stats"]["samples"]["totalQueryableSamples"]
            for name in ("totalQueryableSamples", "totalQueryableSamplesPerStep"):
                assert json.dumps(ours["stats"]["samples"].get(name)) == json.dumps(theirs["stats"]["samples"].get(name))


def test_targets(both: Pair) -> None:
    for params in ("", "state=active", "state=dropped", "state=Any", "state=x", "scrapePool=kept", "scrapePool=none"):
        ours, theirs = (ask(server, "GET", "/api/v1/targets", params).json()["data"] for server in (both.ours, both.theirs))
        del ours["droppedTargetCounts"]  # since 2.48
        for target in ours["droppedTargets"]:
            del target["scrapePool"]  # since 3.0
        assert json.dumps(ours) == json.dumps(theirs)


def test_status(both: Pair) -> None:
    for path in ("buildinfo", "runtimeinfo", "config", "flags", "walreplay"):
        ours, theirs = (server.get(f"/api/v1/status/{path}").json()["data"] for server in (both.ours, both.theirs))
        if path == "flags":
            assert all(isinstance(value, str) for value in ours.values())
            continue
        assert list(ours)[:1] == list(theirs)[:1]
        assert ours.keys() >= theirs.keys()
        assert all(isinstance(ours[name], type(value)) for name, value in theirs.items())
    ours, theirs = (server.get("/api/v1/status/tsdb").json()["data"] for server in (both.ours, both.theirs))
    assert list(ours) == list(theirs)
    assert list(ours["headStats"]) == list(theirs["headStats"])
    for name in ("numSeries", "minTime", "maxTime"):
        assert ours["headStats"][name] == theirs["headStats"][name]
    for name in ("seriesCountByMetricName", "labelValueCountByLabelName", "seriesCountByLabelValuePair"):
        assert [entry["value"] for entry in ours[name]] == [entry["value"] for entry in theirs[name]]
