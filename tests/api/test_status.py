"""What the server says about itself, its targets and its series."""

import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from promlike.api.context import Phase
from promlike.api.tsdb_status import top_lists
from promlike.model.frame import Symbols
from promlike.model.labels import Labels, labels
from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from promlike.storage.index import SeriesIndex
from tests.api.conftest import NOW_MS, Client
from tests.servers import promlike

SERIES = [
    labels({"__name__": "requests", "job": job, "instance": f"{job}:{n}", "path": f"/{n % 7}", **({"ü": "ö"} if n % 2 else {})})
    for job in ("api", "web")
    for n in range(40)
] + [labels({"job": "nameless"}), labels({"__name__": "up"})]


def slow_lists(series: list[Labels], limit: int, focus: str) -> dict[str, list[int]]:
    """Label by label: only the numbers, for which of equal ones comes first is open."""
    pairs = Counter(pair for one in series for pair in one)
    values, sizes, metrics, focused = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for (name, value), count in pairs.items():
        values[name] += 1
        sizes[name] += len(value.encode()) * count
        metrics[value] += count if name == "__name__" else 0
        focused[value] += count if name == focus else 0
    found = {
        "seriesCountByMetricName": (+metrics).values(),
        "labelValueCountByLabelName": values.values(),
        "memoryInBytesByLabelName": sizes.values(),
        "seriesCountByLabelValuePair": pairs.values(),
        "seriesCountByFocusLabelValue": (+focused).values(),
    }
    return {name: sorted(counts, reverse=True)[:limit] for name, counts in found.items()}


@pytest.mark.parametrize("limit", [1, 3, 10, 1000])
@pytest.mark.parametrize("series", [SERIES, SERIES[:1], []])
def test_lists_of_the_largest_are_those_of_a_slow_count(series: list[Labels], limit: int) -> None:
    index = SeriesIndex(Symbols())
    for one in series:
        index.add(index.key(one))
    refs = index.match(())
    found = top_lists(index.label_pairs(refs), limit, "job")
    assert {name: [entry["value"] for entry in entries] for name, entries in found.items()} == slow_lists(series, limit, "job")


async def test_tsdb_status_of_some_series(client: Client) -> None:
    everything = (await client.get("status/tsdb"))["data"]
    assert everything["headStats"] | {"chunkCount": 0} == {
        "numSeries": 4,
        "numLabelPairs": 7,
        "chunkCount": 0,
        "minTime": NOW_MS - 600_000,
        "maxTime": NOW_MS,
    }
    assert everything["headStats"]["chunkCount"] >= 4
    some = (await client.get("status/tsdb", ("match[]", '{job="api"}'), focusLabel="code", topN="1"))["data"]
    assert some["seriesCountByMetricName"] == [{"name": "requests", "value": 2}]
    assert some["seriesCountByLabelValuePair"] == [{"name": "__name__=requests", "value": 2}]
    assert [entry["value"] for entry in some["seriesCountByFocusLabelValue"]] == [1]
    assert (await client.get("status/tsdb", ("match[]", "nothing")))["data"]["seriesCountByMetricName"] == []
    assert (await client.get("status/tsdb", limit="10001"))["error"] == "limit must not exceed 10000"


async def test_blocks_are_what_the_store_holds(client: Client) -> None:
    assert (await client.get("status/tsdb/blocks"))["data"] == {"blocks": []}


async def test_walreplay_is_answered_before_the_server_is_ready(client: Client) -> None:
    assert (await client.get("status/walreplay"))["data"] == {"min": 0, "max": 0, "current": 0, "state": "done"}
    client.state.phase = Phase.STARTING
    assert (await client.get("status/walreplay"))["data"]["state"] == "in progress"


async def test_own_metrics_as_json(client: Client) -> None:
    await client.get("query", query="requests")
    found = {family["name"]: family for family in (await client.get("status/self_metrics"))["data"]}
    assert found["prometheus_ready"] == {
        "name": "prometheus_ready",
        "help": "Whether startup is over.",
        "type": "GAUGE",
        "metric": [{"label": [], "gauge": {"value": 1.0}}],
    }
    requests = found["prometheus_http_requests_total"]
    assert requests["type"] == "COUNTER"
    assert {
        "label": [{"name": "code", "value": "200"}, {"name": "handler", "value": "/api/v1/query"}],
        "counter": {"value": 1.0},
    } in requests["metric"]
    histogram = next(
        one["histogram"]
        for one in found["prometheus_http_request_duration_seconds"]["metric"]
        if one["label"] == [{"name": "handler", "value": "/api/v1/query"}]
    )
    assert histogram["sampleCount"] == "1"
    assert histogram["bucket"][-1] == {"cumulativeCount": "1", "upperBound": "Infinity"}
    summary = found["prometheus_engine_query_duration_seconds"]["metric"][0]["summary"]
    assert [one["quantile"] for one in summary["quantile"]] == [0.5, 0.9, 0.99]
    assert summary["sampleCount"] == "1"


async def test_values_of_own_metrics_are_numbers_even_where_they_say_yes_or_no(client: Client) -> None:
    _, body, _ = await client.request("GET", "/api/v1/status/self_metrics", params={"metric_name_pattern": ".*(ready|success.*|enabled)"})
    assert body.count(b'{"value":') >= 3
    assert b"true" not in body
    assert b"false" not in body


async def test_own_metrics_by_pattern(client: Client) -> None:
    found = await client.get("status/self_metrics", metric_name_pattern="prometheus_(ready|build_info)")
    assert sorted(family["name"] for family in found["data"]) == ["prometheus_build_info", "prometheus_ready"]
    assert (await client.get("status/self_metrics", metric_name_pattern="ready"))["data"] == []
    wrong = await client.get("status/self_metrics", metric_name_pattern="(")
    assert (wrong["code"], wrong["error"].split(":")[0]) == (400, 'invalid parameter "metric_name_pattern"')


async def test_features_are_flags_in_snake_case(client: Client) -> None:
    data = (await client.get("features"))["data"]
    assert data.keys() >= {"api", "promql", "promql_functions", "promql_operators", "scrape", "tsdb"}
    for area, features in data.items():
        assert all(isinstance(value, bool) for value in features.values()), area
    assert data["promql_functions"]["rate"] is True
    assert data["promql_functions"]["mad_over_time"] is False
    assert data["promql_operators"]["sum"] is data["promql_operators"]["!~"] is True


async def test_relabel_steps_end_with_the_rule_that_drops_a_target(client: Client) -> None:
    params = {"scrapePool": "dropped", "labels": '{"__address__": "a:1", "job": "dropped"}'}
    rule = {"source_labels": ["job"], "separator": ";", "regex": "dropped", "replacement": "$1", "action": "drop"}
    assert (await client.get("targets/relabel_steps", **params))["data"] == {"steps": [{"rule": rule, "output": {}, "keep": False}]}
    params["labels"] = '{"job": "kept", "__address__": "a:1"}'
    kept = {"rule": rule, "output": {"__address__": "a:1", "job": "kept"}, "keep": True}
    assert (await client.get("targets/relabel_steps", **params))["data"] == {"steps": [kept]}
    assert (await client.get("targets/relabel_steps", scrapePool="kept", labels="{}"))["data"] == {"steps": []}


async def test_the_configuration_of_a_scrape_pool(client: Client) -> None:
    yaml = (await client.get("scrape_pools/config", scrapePool="kept"))["data"]["yaml"]
    assert yaml.startswith("job_name: kept\n")
    assert "127.0.0.1:1" in yaml


ERRORS: list[tuple[str, dict[str, str], str]] = [
    ("targets/relabel_steps", {}, "no scrapePool parameter provided"),
    ("targets/relabel_steps", {"scrapePool": "x"}, 'error retrieving scrape config: scrape pool "x" not found'),
    ("targets/relabel_steps", {"scrapePool": "kept"}, "no labels parameter provided"),
    ("targets/relabel_steps", {"scrapePool": "kept", "labels": "{"}, "error parsing labels: "),
    ("targets/relabel_steps", {"scrapePool": "kept", "labels": '{"a": 1}'}, "error parsing labels: an object with strings is needed"),
    ("scrape_pools/config", {}, "no scrapePool parameter provided"),
    ("scrape_pools/config", {"scrapePool": "x"}, 'error retrieving scrape config: scrape pool "x" not found'),
    ("rules", {"type": "x"}, 'invalid parameter "type": not supported value "x"'),
    ("rules", {"match[]": "{"}, "1:2: parse error: unexpected end of input inside braces"),
    (
        "rules",
        {"exclude_alerts": "x"},
        'invalid parameter "exclude_alerts": error converting exclude_alerts: strconv.ParseBool: parsing "x"',
    ),
    ("rules", {"group_limit": "x"}, 'invalid parameter "group_limit": group_limit needs to be a valid number: strconv.Atoi: parsing "x"'),
    ("rules", {"group_limit": "-1"}, 'invalid parameter "group_limit": group_limit needs to be greater than 0'),
    ("rules", {"group_next_token": "x"}, 'invalid parameter "group_limit": group_limit needs to be present in order to paginate'),
    ("rules", {"group_limit": "1", "group_next_token": "x"}, 'invalid parameter "group_next_token": invalid group_next_token "x".'),
]


@pytest.mark.parametrize(("path", "params", "message"), ERRORS)
async def test_wrong_parameters_are_named(client: Client, path: str, params: dict[str, str], message: str) -> None:
    answer = await client.get(path, **params)
    assert (answer["status"], answer["code"], answer["errorType"]) == ("error", 400, "bad_data")
    assert answer["error"].startswith(message)


async def test_rules_take_both_spellings_of_every_filter(client: Client) -> None:
    spellings = {name: "x" for base in ("rule_name", "rule_group", "file") for name in (base, f"{base}[]")}
    params: dict[str, Any] = {"type": "alert", "exclude_alerts": "true", "group_limit": "100", **spellings}
    assert (await client.get("rules", ("match[]", '{team="a"}'), **params))["data"] == {"groups": []}


def test_blocks_are_the_days_that_the_store_has_samples_of(tmp_path: Path) -> None:
    day_ms = 86_400_000
    today_ms = int(time.time() * 1000) // day_ms * day_ms
    request = WriteRequest()
    for name, times in (("old", [today_ms - 2 * day_ms + 5, today_ms - 2 * day_ms + 9]), ("long", [today_ms - 2 * day_ms, today_ms])):
        series = request.timeseries.add()
        series.labels.add(name=b"__name__", value=name.encode())
        for time_ms in times:
            series.samples.add(timestamp=time_ms, value=1)
    with promlike(tmp_path) as server:
        assert server.write(request).status == 204
    with promlike(tmp_path) as server:
        blocks = server.get("/api/v1/status/tsdb/blocks").json()["data"]["blocks"]
    assert [(one["minTime"], one["maxTime"], one["stats"]["numSamples"], one["stats"]["numSeries"]) for one in blocks] == [
        (today_ms - 2 * day_ms, today_ms - day_ms, 3, 2),
        (today_ms, today_ms + 1, 1, 1),
    ]
    assert len({one["ulid"] for one in blocks}) == 2


def test_walreplay_counts_the_segments_that_were_replayed(tmp_path: Path) -> None:
    request = WriteRequest()
    series = request.timeseries.add()
    series.labels.add(name=b"__name__", value=b"up")
    series.samples.add(timestamp=int(time.time() * 1000), value=1)
    with promlike(tmp_path) as server:
        assert server.write(request).status == 204
        server.stop(signal.SIGKILL)
    with promlike(tmp_path) as server:
        found = server.get("/api/v1/status/walreplay").json()["data"]
        assert found["state"] == "done"
        assert 0 < found["min"] <= found["current"] == found["max"]
        assert server.get("/api/v1/status/tsdb/blocks").json()["data"] == {"blocks": []}
    with promlike(tmp_path) as server:
        (block,) = server.get("/api/v1/status/tsdb/blocks").json()["data"]["blocks"]
        assert block["stats"]["numSamples"] == block["stats"]["numSeries"] == 1
        assert block["minTime"] == block["maxTime"] - 1 == series.samples[0].timestamp
        assert len(block["ulid"]) == 26
