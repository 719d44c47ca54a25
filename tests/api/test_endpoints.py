"""Every endpoint over HTTP, in Prometheus's shapes and words."""

import gzip
from typing import Any

import orjson
import pytest

from promlike.api.context import Phase
from tests.api.conftest import NOW_MS, Client

NOW = str(NOW_MS // 1000)
MATCH = ("match[]", "requests")


async def test_an_instant_vector_has_result_type_before_result(client: Client) -> None:
    _, body, headers = await client.request("GET", f'/api/v1/query?query=requests{{code="500"}}&time={NOW}')
    assert body == (
        b'{"status":"success","data":{"resultType":"vector","result":'
        b'[{"metric":{"__name__":"requests","code":"500","job":"api"},"value":[1700000000,"60"]}]}}'
    )
    assert headers["Content-Type"] == "application/json"


async def test_grafanas_health_check(client: Client) -> None:
    for answer in (await client.get("query", query="1+1", time="4"), await client.post("query", query="1+1", time="4")):
        assert answer == {"status": "success", "data": {"resultType": "scalar", "result": [4, "2"]}, "code": 200}


async def test_a_range_query(client: Client) -> None:
    answer = await client.get("query_range", query="sum by (job) (requests)", start=str(NOW_MS // 1000 - 60), end=NOW, step="30")
    assert answer["data"]["resultType"] == "matrix"
    assert answer["data"]["result"][1] == {
        "metric": {"job": "web"},
        "values": [[1699999940, "90"], [1699999970, "95"], [1700000000, "100"]],
    }


async def test_parameters_of_url_and_body_are_merged_and_the_body_wins(client: Client) -> None:
    answer = await client.post("query", query="vector(1)", time=NOW, url_params=[("query", "vector(2)"), ("stats", "all"), ("time", "5")])
    assert answer["data"]["result"] == [{"metric": {}, "value": [int(NOW), "1"]}]
    assert answer["data"]["stats"]["samples"].keys() >= {"totalQueryableSamples", "peakSamples"}


@pytest.mark.parametrize("body", [b"query=%ff\xff", b"query=a%00b&query=1", b"%", b"=&&=", b"query=" + b"(" * 5000])
async def test_odd_forms_are_bad_requests(client: Client, body: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=none"}
    status, text, _ = await client.request("POST", "/api/v1/query", data=body, headers=headers)
    assert status == 400
    assert orjson.loads(text)["errorType"] == "bad_data"


async def test_stats_count_samples(client: Client) -> None:
    answer = await client.get("query_range", query="requests", start=str(int(NOW) - 30), end=NOW, step="15", stats="all")
    stats = answer["data"]["stats"]
    assert stats["samples"]["totalQueryableSamples"] == 9
    assert stats["samples"]["totalQueryableSamplesPerStep"] == [[int(NOW) - 30, 3], [int(NOW) - 15, 3], [int(NOW), 3]]
    assert stats["samples"]["samplesRead"] == 9
    assert stats["samples"]["samplesReadPerStep"] == stats["samples"]["totalQueryableSamplesPerStep"]
    assert set(stats["timings"]) == {
        "evalTotalTime",
        "resultSortTime",
        "queryPreparationTime",
        "innerEvalTime",
        "execQueueTime",
        "execTotalTime",
    }
    assert "stats" not in (await client.get("query", query="requests", time=NOW))["data"]


async def test_limit_cuts_series_with_a_warning(client: Client) -> None:
    answer = await client.get("query", query="requests", time=NOW, limit="2")
    assert len(answer["data"]["result"]) == 2
    assert answer["warnings"] == ["results truncated due to limit"]
    answer = await client.get("query_range", query="requests", start=NOW, end=NOW, step="1", limit="1")
    assert len(answer["data"]["result"]) == 1
    assert answer["warnings"] == ["results truncated due to limit"]
    answer = await client.get("query", query="requests", time=NOW, limit="3")
    assert "warnings" not in answer


async def test_lookback_delta_of_a_request(client: Client) -> None:
    later = str(int(NOW) + 60)
    assert len((await client.get("query", query="requests", time=later))["data"]["result"]) == 3
    assert (await client.get("query", query="requests", time=later, lookback_delta="30s"))["data"]["result"] == []


async def test_annotations_are_told(client: Client) -> None:
    answer = await client.get("query", query='quantile(7, requests{job="api"})', time=NOW)
    assert answer["data"]["result"][0]["value"][1] == "+Inf"
    assert "quantile value should be between 0 and 1" in answer["warnings"][0]


ERRORS: list[tuple[str, dict[str, str], int, str, str]] = [
    ("query", {"query": "sum("}, 400, "bad_data", 'invalid parameter "query": 1:5: parse error: unclosed left parenthesis'),
    ("query", {"query": " "}, 400, "bad_data", 'invalid parameter "query": '),
    (
        "query",
        {"query": "up", "time": "x"},
        400,
        "bad_data",
        'invalid parameter "time": Invalid time value for \'time\': cannot parse "x" to a valid timestamp',
    ),
    ("query", {"query": "up", "timeout": "x"}, 400, "bad_data", 'invalid parameter "timeout": cannot parse "x" to a valid duration'),
    ("query", {"query": "up", "limit": "-1"}, 400, "bad_data", 'invalid parameter "limit": limit must be non-negative'),
    ("query_range", {"query": "up"}, 400, "bad_data", 'invalid parameter "start": cannot parse "" to a valid timestamp'),
    (
        "query_range",
        {"query": '"text"', "start": "0", "end": "1", "step": "1"},
        400,
        "bad_data",
        'invalid parameter "query": invalid expression type "string" for range query, must be Scalar or instant Vector',
    ),
    ("query", {"query": "up", "timeout": "0"}, 503, "timeout", "query timed out in "),
    ("series", {}, 400, "bad_data", "no match[] parameter provided"),
    ("series", {"match[]": "{"}, 400, "bad_data", 'invalid parameter "match[]": 1:2: parse error: '),
    ("series", {"match[]": '{job=~".*"}'}, 400, "bad_data", 'invalid parameter "match[]": '),
    ("series", {"match[]": "sum(up)"}, 400, "bad_data", 'invalid parameter "match[]": '),
    (
        "labels",
        {"start": "never"},
        400,
        "bad_data",
        'invalid parameter "start": Invalid time value for \'start\': cannot parse "never" to a valid timestamp',
    ),
    ("status/tsdb", {"limit": "0"}, 400, "bad_data", "limit must be a positive number"),
    ("format_query", {"query": "1 +"}, 400, "bad_data", 'invalid parameter "query": 1:4: parse error: unexpected end of input'),
]


@pytest.mark.parametrize(("path", "params", "code", "error_type", "message"), ERRORS)
async def test_errors(client: Client, path: str, params: dict[str, str], code: int, error_type: str, message: str) -> None:
    answer = await client.get(path, **params)
    assert (answer["status"], answer["code"], answer["errorType"]) == ("error", code, error_type)
    assert answer["error"].startswith(message)
    assert "data" not in answer


async def test_execution_errors_are_422(open_client: Client) -> None:
    status, body, _ = await open_client.request("GET", f"/prom/api/v1/query?query=requests[10m]&time={NOW}")
    assert status == 422
    assert orjson.loads(body)["errorType"] == "execution"
    assert orjson.loads(body)["error"].startswith("query processing would load ")


async def test_series(client: Client) -> None:
    answer = await client.get("series", MATCH, ("match[]", '{"http.code"="404"}'), start=str(int(NOW) - 60), end=NOW)
    assert answer["data"] == [
        {"__name__": "http.status", "http.code": "404"},
        {"__name__": "requests", "code": "200", "job": "api"},
        {"__name__": "requests", "code": "200", "job": "web"},
        {"__name__": "requests", "code": "500", "job": "api"},
    ]
    assert (await client.post("series", MATCH, limit="1"))["warnings"] == ["results truncated due to limit"]
    assert (await client.get("series", MATCH, start="0", end="100"))["data"] == []


async def test_start_and_end_are_both_included(client: Client) -> None:
    dotted = ("match[]", '{"http.status"}')
    assert len((await client.get("series", dotted, start=NOW, end=NOW))["data"]) == 1
    assert (await client.get("series", dotted, start=str(int(NOW) - 60), end=str(int(NOW) - 1)))["data"] == []


async def test_labels_and_their_values(client: Client) -> None:
    assert (await client.get("labels"))["data"] == ["__name__", "code", "http.code", "job"]
    assert (await client.post("labels", MATCH))["data"] == ["__name__", "code", "job"]
    assert (await client.get("label/job/values"))["data"] == ["api", "web"]
    assert (await client.post("label/job/values", ("match[]", 'requests{code="500"}')))["data"] == ["api"]
    assert (await client.get("label/__name__/values", limit="1")) == {
        "status": "success",
        "data": ["http.status"],
        "warnings": ["results truncated due to limit"],
        "code": 200,
    }
    assert (await client.get("label/nothing/values"))["data"] == []


@pytest.mark.parametrize("name", ["U__http_2e_code", "http.code"])
async def test_values_of_a_label_outside_the_old_alphabet(client: Client, name: str) -> None:
    assert (await client.get(f"label/{name}/values"))["data"] == ["404"]


async def test_metadata(client: Client) -> None:
    requests = [{"type": "counter", "help": "Requests.", "unit": ""}]
    assert (await client.get("metadata"))["data"] == {"requests": requests, "zzz": [{"type": "gauge", "help": "Last.", "unit": "bytes"}]}
    assert (await client.get("metadata", limit="1"))["data"] == {"requests": requests}
    assert (await client.get("metadata", metric="requests", limit_per_metric="1"))["data"] == {"requests": requests}
    assert (await client.get("metadata", metric="none"))["data"] == {}


async def test_targets(client: Client) -> None:
    data = (await client.get("targets"))["data"]
    assert data["droppedTargetCounts"] == {"kept": 0, "dropped": 1} or data["activeTargets"] == []
    assert data.keys() == {"activeTargets", "droppedTargets", "droppedTargetCounts"}
    assert (await client.get("targets", state="dropped"))["data"]["activeTargets"] == []
    assert (await client.get("targets/metadata", match_target='{job="kept"}'))["data"] == []


async def test_queries_are_formatted_and_parsed(client: Client) -> None:
    assert (await client.get("format_query", query="sum(rate(x[5m]))by(a)"))["data"] == "sum by (a) (rate(x[5m]))"
    tree = (await client.post("parse_query", query="sum(x)"))["data"]
    assert tree["type"] == "aggregation"
    assert tree["expr"]["type"] == "vectorSelector"


EMPTY: dict[str, Any] = {
    "rules": {"groups": []},
    "alerts": {"alerts": []},
    "alertmanagers": {"activeAlertmanagers": [], "droppedAlertmanagers": []},
    "status/walreplay": {"min": 0, "max": 0, "current": 0, "state": "done"},
    "status/flags": {"log.level": "info"},
}


@pytest.mark.parametrize("path", EMPTY)
async def test_what_is_empty_or_fixed_has_prometheus_shape(client: Client, path: str) -> None:
    assert (await client.get(path))["data"] == EMPTY[path]


async def test_grafanas_exemplar_probe_in_milliseconds_succeeds(client: Client) -> None:
    probe = [("query", "test"), ("start", "1700000000000"), ("end", "1700003600000")]
    for answer in (await client.post("query_exemplars", *probe), await client.get("query_exemplars", *probe)):
        assert answer == {"status": "success", "data": [], "code": 200}


async def test_build_info_names_a_prometheus_and_no_features(client: Client) -> None:
    info = (await client.get("status/buildinfo"))["data"]
    assert info["version"].startswith("3.")
    assert "features" not in info
    assert all(isinstance(value, str) for value in info.values())


async def test_status(client: Client) -> None:
    assert "job_name: kept" in (await client.get("status/config"))["data"]["yaml"]
    runtime = (await client.get("status/runtimeinfo"))["data"]
    assert runtime.keys() >= {"startTime", "reloadConfigSuccess", "storageRetention", "goroutineCount"}
    assert runtime["storageRetention"] == "20y"
    tsdb = (await client.get("status/tsdb", limit="1"))["data"]
    assert tsdb["headStats"]["numSeries"] == 4
    assert tsdb["headStats"]["maxTime"] == NOW_MS
    assert tsdb["seriesCountByMetricName"] == [{"name": "requests", "value": 3}]
    assert tsdb["labelValueCountByLabelName"][0]["value"] == 2
    assert tsdb["seriesCountByLabelValuePair"] == [{"name": "__name__=requests", "value": 3}]
    assert (await client.get("features"))["data"]["api"]["lifecycle"] is False


async def test_large_answers_are_compressed_when_the_client_takes_gzip(client: Client) -> None:
    path = f"/api/v1/query_range?query=requests&start={int(NOW) - 600}&end={NOW}&step=1"
    _, plain, headers = await client.request("GET", path, headers={"Accept-Encoding": "zstd, br"})
    assert "Content-Encoding" not in headers
    _, packed, headers = await client.request("GET", path, headers={"Accept-Encoding": "deflate, gzip;q=1.0, zstd"})
    assert headers["Content-Encoding"] == "gzip"
    assert headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(packed) == plain
    assert len(packed) < len(plain) / 3
    _, _, headers = await client.request("GET", path, headers={"Accept-Encoding": "gzip;q=0"})
    assert "Content-Encoding" not in headers
    _, _, headers = await client.request("GET", "/api/v1/query?query=1", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in headers


async def test_browsers_of_any_origin_may_call(client: Client) -> None:
    status, _, headers = await client.request("OPTIONS", "/api/v1/query", headers={"Origin": "http://x.org"})
    assert status == 204
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Access-Control-Allow-Methods"] == "GET, POST, OPTIONS"


async def test_origins_can_be_restricted(open_client: Client) -> None:
    _, _, headers = await open_client.request("GET", "/prom/api/v1/query?query=1", headers={"Origin": "https://a.org"})
    assert headers["Access-Control-Allow-Origin"] == "https://a.org"
    _, _, headers = await open_client.request("GET", "/prom/api/v1/query?query=1", headers={"Origin": "https://a.org.evil"})
    assert "Access-Control-Allow-Origin" not in headers


async def test_unknown_paths_and_methods(client: Client) -> None:
    assert (await client.request("GET", "/api/v1/nothing"))[:2] == (404, b"404 page not found\n")
    assert (await client.request("DELETE", "/api/v1/query"))[0] == 405


async def test_life_cycle_needs_its_flag(client: Client, open_client: Client) -> None:
    for path in ("/-/reload", "/-/quit"):
        assert (await client.request("POST", path))[:2] == (403, b"Lifecycle API is not enabled.")
    assert client.calls == []
    assert (await open_client.request("POST", "/prom/-/reload"))[0] == 200
    status, body, _ = await open_client.request("PUT", "/prom/-/reload")
    assert (status, body) == (500, b"test.yml:1: no\n")
    assert (await open_client.request("POST", "/prom/-/quit"))[0] == 200
    assert open_client.calls == ["reload", "reload", "stop"]


async def test_only_health_is_answered_before_the_server_is_ready(client: Client) -> None:
    for phase, stopping in ((Phase.STARTING, None), (Phase.STOPPING, "true")):
        client.state.phase = phase
        for path in ("/-/ready", "/api/v1/query?query=1", "/api/v1/labels"):
            status, body, headers = await client.request("GET", path)
            assert (status, body) == (503, b"Service Unavailable")
            assert headers.get("X-Prometheus-Stopping") == stopping
        assert (await client.request("POST", "/api/v1/write"))[0] == 503
        assert (await client.request("GET", "/-/healthy"))[0] == 200
        assert (await client.request("GET", "/api/v1/status/walreplay"))[0] == 200


async def test_own_metrics(client: Client) -> None:
    await client.get("query", query="requests", time=NOW)
    _, body, headers = await client.request("GET", "/metrics")
    assert headers["Content-Type"].startswith("text/plain")
    lines = body.decode().splitlines()
    assert "prometheus_tsdb_head_series 4.0" in lines
    assert any(line.startswith("prometheus_build_info{") for line in lines)
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)
    assert 'prometheus_engine_query_duration_seconds_count{slice="inner_eval"} 1.0' in lines
    assert 'prometheus_http_requests_total{code="200",handler="/api/v1/query"} 1.0' in lines
    assert not any("_created" in line and "series_created" not in line for line in lines)


async def test_the_status_page_stands_under_the_prefix(open_client: Client) -> None:
    status, body, _ = await open_client.request("GET", "/prom/")
    assert status == 200
    assert b"promlike" in body
    status, _, headers = await open_client.request("GET", "/")
    assert (status, headers["Location"]) == (302, "/prom/")


async def test_an_answer_shows_ten_warnings_and_how_many_more_there_are(client: Client) -> None:
    query = " or ".join(f"quantile({number}, vector(1))" for number in range(2, 15))
    answer = await client.get("query", query=query, time="0")
    assert len(answer["warnings"]) == 11
    assert answer["warnings"][0] == "PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)"
    assert answer["warnings"][-1] == "3 more warning annotations omitted"


async def test_statistics_say_what_came_from_the_cache_and_nocache_goes_by_it(client: Client) -> None:
    asked = {"query": "sum(requests)", "start": str(NOW_MS // 1000 - 300), "end": str(NOW_MS // 1000), "step": "15", "stats": "all"}
    first, second = [await client.get("query_range", **asked) for _ in range(2)]
    assert first["data"]["result"] == second["data"]["result"]
    assert (
        first["data"]["stats"]["samples"]["totalQueryableSamplesPerStep"]
        == second["data"]["stats"]["samples"]["totalQueryableSamplesPerStep"]
    )
    assert [answer["data"]["stats"]["resultCache"] for answer in (first, second)] == [
        {"steps": 21, "cachedSteps": 0, "hitRatio": 0, "sharedSteps": 0, "sharedHitRatio": 0},
        {"steps": 21, "cachedSteps": 21, "hitRatio": 1, "sharedSteps": 0, "sharedHitRatio": 0},
    ]
    assert (await client.get("query_range", **asked, nocache="1"))["data"]["stats"]["resultCache"]["cachedSteps"] == 0
    assert (await client.get("query_range", **asked, nocache="maybe"))[
        "error"
    ] == 'invalid parameter "nocache": unable to parse boolean: strconv.ParseBool: parsing "maybe": invalid syntax'
