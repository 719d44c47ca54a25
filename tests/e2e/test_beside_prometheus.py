"""Debian's Prometheus scrapes a node_exporter and writes to promlike, which scrapes the same exporter itself: both answer alike."""

import math
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import Server, node_exporter, prometheus, promlike

SECONDS_OF_DATA = 14

PROMETHEUS_CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: node
    static_configs: [{{targets: ["127.0.0.1:{exporter}"], labels: {{instance: machine}}}}]
remote_write:
  - url: http://127.0.0.1:{promlike}/api/v1/write
    queue_config: {{batch_send_deadline: 200ms, min_backoff: 50ms}}
    metadata_config: {{send_interval: 2s}}
"""

PROMLIKE_CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: own
    static_configs: [{{targets: ["127.0.0.1:{exporter}"], labels: {{instance: machine}}}}]
"""

QUERIES = [
    'up{job="node"}',
    'node_memory_MemTotal_bytes{job="node"}',
    'node_cpu_seconds_total{job="node", mode!="idle"}',
    'rate(node_cpu_seconds_total{job="node"}[8s])',
    'sum by (mode) (rate(node_cpu_seconds_total{job="node"}[8s]))',
    '1 - avg(irate(node_cpu_seconds_total{job="node", mode="idle"}[5s]))',
    'increase(node_context_switches_total{job="node"}[8s])',
    'node_memory_MemAvailable_bytes{job="node"} / node_memory_MemTotal_bytes{job="node"} * 100',
    'node_filesystem_avail_bytes{job="node"} / on (device, mountpoint) group_left (fstype) node_filesystem_size_bytes{job="node"}',
    'count by (__name__) ({__name__=~"node_.*", job="node"})',
    'topk(3, node_cpu_seconds_total{job="node"})',
    'bottomk(2, node_memory_MemFree_bytes{job="node"} or node_memory_Cached_bytes{job="node"})',
    'quantile(0.9, node_cpu_seconds_total{job="node"})',
    'stddev by (mode) (node_cpu_seconds_total{job="node"})',
    'avg_over_time(node_load1{job="node"}[10s])',
    'max_over_time(node_memory_MemFree_bytes{job="node"}[10s]) - min_over_time(node_memory_MemFree_bytes{job="node"}[10s])',
    'count_over_time(node_load1{job="node"}[10s])',
    'stddev_over_time(node_memory_MemFree_bytes{job="node"}[10s])',
    'quantile_over_time(0.5, node_memory_MemFree_bytes{job="node"}[10s])',
    'delta(node_memory_MemFree_bytes{job="node"}[9s])',
    'deriv(node_memory_MemFree_bytes{job="node"}[9s])',
    'predict_linear(node_memory_MemFree_bytes{job="node"}[9s], 60)',
    'changes(node_memory_MemFree_bytes{job="node"}[10s])',
    'resets(node_cpu_seconds_total{job="node"}[10s])',
    'label_replace(node_uname_info{job="node"}, "major", "$1", "release", "(\\\\d+).*")',
    'node_uname_info{job="node"} * on (instance) group_right () node_load1{job="node"}',
    'sort_desc(sum by (cpu) (node_cpu_seconds_total{job="node"}))',
    'node_load1{job="node"} offset 3s',
    'sum(rate(node_cpu_seconds_total{job="node"}[5s])) by (mode) > 0.01',
    'absent(node_no_such_metric{job="node"})',
    'max_over_time(sum(rate(node_cpu_seconds_total{job="node"}[4s] offset {between}))[6s:1s])',
    'count_values("value", node_cpu_seconds_total{job="node", mode="steal"})',
    'scalar(node_boot_time_seconds{job="node"})',
    'time() - node_boot_time_seconds{job="node"}',
    'timestamp(node_load1{job="node"})',
    'histogram_quantile(0.9, label_replace(sum by (cpu) (node_cpu_seconds_total{job="node"}), "le", "+Inf", "", ""))',
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server, int]]:
    """Prometheus, promlike, and a time (ms) between two scrapes for which both have everything."""
    folder = tmp_path_factory.mktemp("pair")
    with (
        node_exporter(folder) as exporter,
        promlike(folder, config=PROMLIKE_CONFIG.format(exporter=exporter.port)) as ours,
        prometheus(folder, config=PROMETHEUS_CONFIG.format(exporter=exporter.port, promlike=ours.port)) as theirs,
    ):
        time.sleep(SECONDS_OF_DATA)
        newest = scraped_ms(theirs)
        deadline = time.monotonic() + 20
        while scraped_ms(ours) < newest:
            assert time.monotonic() < deadline, "remote write does not arrive"
            time.sleep(0.2)
        # Prometheus 2.42 closes windows on the left: no window may start at a sample. Samples lie whole seconds apart.
        yield theirs, ours, newest - 500


def scraped_ms(server: Server) -> int:
    """The time of the newest `up` of the job that Prometheus scrapes."""
    result = server.data("query", query='max_over_time(timestamp(up{job="node"})[5s:100ms])')["result"]
    return round(float(result[0]["value"][1]) * 1000) if result else 0


def between(time_ms: int, query: str) -> str:
    """The query with the offset by which windows that end at whole seconds end between two scrapes, as `time_ms` lies between two."""
    return query.replace("{between}", f"{2000 - time_ms % 1000}ms")


def rows(data: Any) -> dict[str, list[tuple[float, float]]]:
    """Samples by series."""
    if data["resultType"] in ("scalar", "string"):
        return {"": [(data["result"][0], float(data["result"][1]))]}
    return {
        repr(sorted(row["metric"].items())): [(at, float(value)) for at, value in row.get("values", [row.get("value")])]
        for row in data["result"]
    }


def assert_same(ours: Any, theirs: Any) -> None:
    assert ours["resultType"] == theirs["resultType"]
    mine, other = rows(ours), rows(theirs)
    assert mine.keys() == other.keys()
    for series, samples in other.items():
        assert [at for at, _ in mine[series]] == [at for at, _ in samples]
        for (_, found), (_, expected) in zip(mine[series], samples, strict=True):
            assert math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(found) and math.isnan(expected)), series


@pytest.mark.parametrize("query", QUERIES)
def test_an_instant_query_gives_the_same_answer(pair: tuple[Server, Server, int], query: str) -> None:
    theirs, ours, time_ms = pair
    at, query = str(time_ms / 1000), between(time_ms, query)
    assert_same(ours.data("query", query=query, time=at), theirs.data("query", query=query, time=at))


@pytest.mark.parametrize("query", QUERIES)
def test_a_range_query_gives_the_same_answer(pair: tuple[Server, Server, int], query: str) -> None:
    theirs, ours, time_ms = pair
    query = between(time_ms, query)
    grid = {"start": str(time_ms / 1000 - 8), "end": str(time_ms / 1000), "step": "2"}
    assert_same(ours.data("query_range", query=query, **grid), theirs.data("query_range", query=query, **grid))


def test_at_least_thirty_queries_answer_something(pair: tuple[Server, Server, int]) -> None:
    theirs, _, time_ms = pair
    answers = [theirs.data("query", query=between(time_ms, query), time=str(time_ms / 1000))["result"] for query in QUERIES]
    assert sum(bool(answer) for answer in answers) >= 30


def test_own_scrapes_hold_the_series_that_prometheus_scraped(pair: tuple[Server, Server, int]) -> None:
    theirs, ours, time_ms = pair
    at = str(time_ms / 1000)
    names = 'count by (__name__) ({{__name__=~"up|scrape_.*|node_.*|go_.*|process_.*|promhttp_.*", job="{}"}})'
    assert_same(ours.data("query", query=names.format("own"), time=at), theirs.data("query", query=names.format("node"), time=at))
    constant = (
        'label_replace({{__name__=~"node_boot_time_seconds|node_uname_info|node_memory_MemTotal_bytes|up", job="{}"}}, "job", "", "", "")'
    )
    assert_same(ours.data("query", query=constant.format("own"), time=at), theirs.data("query", query=constant.format("node"), time=at))
    scrapes = ours.data("query", query='count_over_time(up{job="own"}[10s])', time=at)["result"]
    assert float(scrapes[0]["value"][1]) >= 8


def test_metadata_and_labels_are_the_same(pair: tuple[Server, Server, int]) -> None:
    theirs, ours, _ = pair
    mine, other = (server.get("/api/v1/metadata").json()["data"] for server in (ours, theirs))
    assert other
    assert {name: entry[0] for name, entry in mine.items() if name in other} == {name: entry[0] for name, entry in other.items()}
    for path in ("labels", "label/device/values", "label/__name__/values"):
        answers = [server.get(f"/api/v1/{path}", **{"match[]": '{job="node"}'}).json()["data"] for server in (ours, theirs)]
        assert answers[0] == answers[1]


def test_targets_are_shown_alike(pair: tuple[Server, Server, int]) -> None:
    theirs, ours, _ = pair
    mine, other = (server.get("/api/v1/targets").json()["data"]["activeTargets"][0] for server in (ours, theirs))
    assert mine.keys() >= other.keys()
    same = ("scrapeInterval", "scrapeTimeout", "health", "lastError", "scrapeUrl")
    assert {key: mine[key] for key in same} == {key: other[key] for key in same}
