"""Every kind of error at every endpoint that can give it: status, type, envelope; beside a real Prometheus where it has the endpoint."""

import re
import time
from collections.abc import Iterator

import pytest

from tests.differential.pair import Pair
from tests.servers import Response, prometheus, promlike

CONFIG = "global: {scrape_interval: 1d}\n"

TABLE: list[tuple[str, str, int, str, bool]] = [
    # Endpoint and parameters, status, errorType, and whether Prometheus 2.42 says the same.
    ("query", "", 400, "bad_data", True),
    ("query?query=sum(", "", 400, "bad_data", True),
    ("query?query=1&time=x", "", 400, "bad_data", True),
    ("query?query=1&timeout=x", "", 400, "bad_data", True),
    ("query?query=1&limit=x", "", 400, "bad_data", False),
    ("query?query=1&limit=-1", "", 400, "bad_data", False),
    ("query?query=1&lookback_delta=x", "", 400, "bad_data", False),
    ("query?query=up&timeout=0", "", 503, "timeout", False),
    ("query?query=up*on(a)up", "", 200, "", True),
    ("query?query=label_replace(vector(1),%22a%22,%22b%22,%22c%22,%22(%22)", "", 422, "execution", False),
    ("query?query=vector(1)&max_source_resolution=x", "", 400, "bad_data", False),
    ("query_range", "", 400, "bad_data", True),
    ("query_range?query=1&start=x&end=1&step=1", "", 400, "bad_data", True),
    ("query_range?query=1&start=0&end=x&step=1", "", 400, "bad_data", True),
    ("query_range?query=1&start=0&end=1&step=x", "", 400, "bad_data", True),
    ("query_range?query=1&start=0&end=1&step=0", "", 400, "bad_data", True),
    ("query_range?query=1&start=2&end=1&step=1", "", 400, "bad_data", True),
    ("query_range?query=1&start=0&end=11001&step=1", "", 400, "bad_data", True),
    ("query_range?query=1&start=0&end=1&step=1&timeout=x", "", 400, "bad_data", True),
    ("query_range?query=1&start=0&end=1&step=1&limit=x", "", 400, "bad_data", False),
    ("query_range?query=1&start=0&end=1&step=1&nocache=x", "", 400, "bad_data", False),
    ("query_exemplars", "", 400, "bad_data", True),
    ("query_exemplars?query=up&start=x&end=1", "", 400, "bad_data", True),
    ("query_exemplars?query=up&start=0&end=x", "", 400, "bad_data", True),
    ("query_exemplars?query=up&start=2&end=1", "", 400, "bad_data", True),
    ("query_exemplars?query=up{&start=0&end=1", "", 400, "bad_data", True),
    ("format_query?query=1%2B", "", 400, "bad_data", True),
    ("parse_query?query=1%2B", "", 400, "bad_data", False),
    ("series", "", 400, "bad_data", True),
    ("series?match[]=up{", "", 400, "bad_data", True),
    ("series?match[]={}", "", 400, "bad_data", True),
    ("series?match[]=up&start=x", "", 400, "bad_data", True),
    ("series?match[]=up&end=x", "", 400, "bad_data", True),
    ("series?match[]=up&limit=x", "", 400, "bad_data", False),
    ("series?match[]=up&limit=-1", "", 400, "bad_data", False),
    ("labels?match[]=up{", "", 400, "bad_data", True),
    ("labels?start=x", "", 400, "bad_data", True),
    ("labels?end=x", "", 400, "bad_data", True),
    ("labels?limit=x", "", 400, "bad_data", False),
    ("label/job/values?match[]=up{", "", 400, "bad_data", True),
    ("label/job/values?start=x", "", 400, "bad_data", True),
    ("label/job/values?end=x", "", 400, "bad_data", True),
    ("label/job/values?limit=x", "", 400, "bad_data", False),
    ("metadata?limit=x", "", 400, "bad_data", True),
    ("metadata?limit_per_metric=x", "", 400, "bad_data", False),
    ("targets/metadata?limit=x", "", 400, "bad_data", True),
    ("targets/metadata?match_target={", "", 400, "bad_data", True),
    ("rules?type=x", "", 400, "bad_data", True),
    ("rules?match[]={", "", 400, "bad_data", False),
    ("rules?exclude_alerts=x", "", 400, "bad_data", False),
    ("rules?group_limit=x", "", 400, "bad_data", False),
    ("status/tsdb?limit=0", "", 400, "bad_data", False),
    ("status/tsdb?limit=10001", "", 400, "bad_data", False),
    ("status/tsdb?match[]={", "", 400, "bad_data", False),
    ("status/self_metrics?metric_name_pattern=(", "", 400, "bad_data", False),
    ("search/metric_names?limit=x", "", 400, "bad_data", False),
    ("search/label_names?sort_by=x", "", 400, "bad_data", False),
    ("search/label_values", "", 400, "bad_data", False),
    ("targets/relabel_steps", "", 400, "bad_data", False),
    ("scrape_pools/config?scrapePool=x", "", 400, "bad_data", False),
    ("openapi.yaml?openapi_version=2", "", 400, "bad_data", False),
    ("sql?query=SELECT%201", "", 503, "unavailable", False),
    ("admin/tsdb/delete_series?match[]=up", "POST", 503, "unavailable", False),
    ("admin/tsdb/clean_tombstones", "POST", 503, "unavailable", False),
    ("admin/tsdb/snapshot", "POST", 503, "unavailable", False),
]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with (
        prometheus(tmp_path_factory.mktemp("theirs"), config=CONFIG) as theirs,
        promlike(tmp_path_factory.mktemp("ours"), config=CONFIG) as ours,
    ):
        yield Pair(ours=ours, theirs=theirs, end_ms=int(time.time()) * 1000)


def envelope(answer: Response) -> tuple[int, str, list[str], str, str]:
    """Everything but the text of the error, which says more since Prometheus 3; that is compared without what was added."""
    body = answer.json()
    text = re.sub(r'^invalid parameter \\?"[\w\[\]]+\\?": ', "", body.get("error", ""))
    return answer.status, answer.headers["Content-Type"], list(body), body.get("errorType", ""), text


@pytest.mark.parametrize(("asked", "method", "status", "kind", "same"), TABLE, ids=[row[0] for row in TABLE])
def test_errors(both: Pair, asked: str, method: str, status: int, kind: str, same: bool) -> None:
    ours = envelope(both.ours.request(method or "GET", f"/api/v1/{asked}"))
    assert (ours[0], ours[1], ours[3]) == (status, "application/json", kind)
    if kind:
        assert ours[2] == ["status", "errorType", "error"]
        assert ours[4]
    if same:
        assert ours == envelope(both.theirs.request(method or "GET", f"/api/v1/{asked}"))
