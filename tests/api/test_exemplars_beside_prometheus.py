"""`/api/v1/query_exemplars`: the same exemplars, written or scraped, in a real Prometheus and in promlike; the same bytes back."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.differential.pair import Pair
from tests.scrape.exporter import OPENMETRICS, exporter
from tests.servers import FORM, Server, prometheus, promlike

FEATURE = "--enable-feature=exemplar-storage"
START_MS = int(time.time()) * 1000 - 120_000

ROWS = [
    ("requests_bucket", {"job": "api", "le": "0.5"}, 0, 0.25, {"trace_id": "abc", "span_id": "1"}),
    ("requests_bucket", {"job": "api", "le": "0.5"}, 1_500, 1e21, {"trace_id": "def"}),
    ("requests_bucket", {"job": "api", "le": "0.5"}, 60_000, 1e-7, {"note": '<a&b> "q" \\ \u2028 ü'}),
    ("requests_bucket", {"job": "api", "le": "+Inf"}, 1_001, float("inf"), {"z": "1", "a": "2"}),
    ("requests_bucket", {"job": "<web>&", "le": "+Inf"}, 10, float("nan"), {}),
    ("requests_total", {"job": "api"}, 100, -0.0, {"trace_id": "ghi"}),
    ("other", {"job": "api"}, 100, 12345678.0, {"trace_id": "jkl"}),
]
"""Metric, labels, milliseconds after START_MS, value, labels of the exemplar; each series in the order of time, as Prometheus wants it."""

QUERIES = [
    "requests_bucket",
    'requests_bucket{le="0.5"}',
    '{job="api"}',
    '{__name__=~"requests.*"}',
    "requests_total / requests_total",
    "sum(rate(requests_bucket[5m])) by (le) + on() group_left() max_over_time(other[5m:1m])",
    'histogram_quantile(0.9, requests_bucket{job="api"} offset 1h)',
    "requests_total @ 0",
    "nothing",
    "1 + 2",
    '"text"',
    "requests_bucket{",
    "",
]


def filled(server: Server) -> None:
    request = WriteRequest()
    for metric, labels, after_ms, value, exemplar in ROWS:
        series = request.timeseries.add()
        for name, text in sorted({"__name__": metric, **labels}.items()):
            series.labels.add(name=name.encode(), value=text.encode())
        series.samples.add(value=1.0, timestamp=START_MS + after_ms)
        added = series.exemplars.add(value=value, timestamp=START_MS + after_ms)
        for name, text in sorted(exemplar.items()):
            added.labels.add(name=name.encode(), value=text.encode())
    answer = server.write(request)
    assert answer.status in (200, 204), answer.text


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with prometheus(tmp_path_factory.mktemp("theirs"), FEATURE) as theirs, promlike(tmp_path_factory.mktemp("ours")) as ours:
        for server in (theirs, ours):
            filled(server)
        yield Pair(ours=ours, theirs=theirs, end_ms=START_MS + 120_000)


def assert_same(both: Pair, **params: str) -> bytes:
    body = b""
    for method in ("GET", "POST"):
        answers = []
        for server in (both.ours, both.theirs):
            path, text = "/api/v1/query_exemplars", urlencode(params)
            got = server.request("GET", f"{path}?{text}") if method == "GET" else server.request("POST", path, text.encode(), FORM)
            answers.append((got.status, got.headers.get("Content-Type"), got.body))
        assert answers[0] == answers[1], (method, params)
        body = answers[0][2]
    return body


@pytest.mark.parametrize("query", QUERIES)
def test_queries(both: Pair, query: str) -> None:
    assert_same(both, query=query, start=f"{START_MS / 1000:.3f}", end=f"{START_MS / 1000 + 120:.3f}")


def test_everything_is_there(both: Pair) -> None:
    found = json.loads(assert_same(both, query='{__name__=~".+"}', start=str(START_MS / 1000), end=str(START_MS / 1000 + 120)))
    assert sum(len(series["exemplars"]) for series in found["data"]) == len(ROWS)


SPANS = [(0, 0), (0, 1.5), (0.001, 1.5), (1.5, 1.5), (1.501, 60), (-1000, -1), (61, 62)]


@pytest.mark.parametrize(("start", "end"), SPANS)
def test_both_ends_of_a_span_are_included(both: Pair, start: float, end: float) -> None:
    span = [f"{START_MS / 1000 + seconds:.3f}" for seconds in (start, end)]
    assert_same(both, query="requests_bucket", start=span[0], end=span[1])


@pytest.mark.parametrize(
    "params", [{}, {"start": str(START_MS / 1000)}, {"end": "5"}, {"start": "5", "end": "4"}, {"start": "x"}, {"end": "y"}]
)
def test_ends_that_are_missing_or_wrong(both: Pair, params: dict[str, str]) -> None:
    assert_same(both, query="requests_bucket", **params)


PAGE = f"""# TYPE a counter
a_total{{x="1"}} 5 # {{trace_id="abc"}} 0.5 {START_MS / 1000:.3f}
a_total{{x="2"}} 5 # {{trace_id="b",k="v"}} 1
# TYPE b histogram
b_bucket{{le="1.0"}} 1 # {{}} 0.067 {START_MS / 1000 + 1:.3f}
b_bucket{{le="+Inf"}} 2
b_count 2
b_sum 3
# EOF
"""


async def test_exemplars_of_a_scrape(tmp_path: Path) -> None:
    """Those without a time are compared without it: each server has that of its own first scrape. Prometheus 2.42 leaves escapes inside
    the labels of an exemplar as they are, so none is compared.
    """
    async with exporter() as target:
        target.body, target.content_type = PAGE, OPENMETRICS
        static = f'static_configs: [{{targets: ["{target.address}"]}}]'
        config = f"scrape_configs: [{{job_name: j, scrape_interval: 200ms, scrape_timeout: 200ms, {static}}}]"
        (tmp_path / "theirs").mkdir()
        (tmp_path / "ours").mkdir()
        with prometheus(tmp_path / "theirs", FEATURE, config=config) as theirs, promlike(tmp_path / "ours", config=config) as ours:
            found = [await asyncio.to_thread(scraped, server) for server in (ours, theirs)]
    assert found[0] == found[1]
    assert len(found[0]) == 3


def scraped(server: Server) -> list[tuple[dict[str, str], list[tuple[object, ...]]]]:
    """Once the server has scraped several times."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        result = server.data("query", query="count_over_time(a_total[1m])")["result"]
        if result and float(result[0]["value"][1]) >= 3:
            break
        time.sleep(0.2)
    data = server.data("query_exemplars", query='{job="j"}', start=str(START_MS / 1000 - 1), end=str(time.time() + 10))
    return [
        (
            series["seriesLabels"],
            [
                (one["labels"], one["value"], one["timestamp"] if one["timestamp"] < START_MS / 1000 + 2 else None)
                for one in series["exemplars"]
            ],
        )
        for series in data
    ]
