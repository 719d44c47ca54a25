"""Grafana's metric browser and completion with more than 50,000 metrics."""

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.servers import FORM, Server, promlike

NOW = int(time.time()) // 60 * 60
METRICS = 51_000
PORTION = 5_100
SPAN = {"start": NOW - 3600, "end": NOW}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with promlike(tmp_path_factory.mktemp("browser")) as one:
        for start in range(0, METRICS, PORTION):
            request = WriteRequest()
            for number in range(start, start + PORTION):
                series = request.timeseries.add()
                series.labels.add(name=b"__name__", value=b"browser_%05d" % number)
                series.labels.add(name=b"team", value=b"team_%03d" % (number % 300))
                series.samples.add(timestamp=(NOW - 60) * 1000, value=1)
            assert one.write(request).status == 204
        yield one


def asked(server: Server, path: str, **params: object) -> Any:
    """With GET and with POST, which must give the same."""
    query = urlencode(params, doseq=True)
    answers = [
        server.request("GET", f"/api/v1/{path}?{query}").json(),
        server.request("POST", f"/api/v1/{path}", query.encode(), FORM).json(),
    ]
    assert answers[0] == answers[1]
    assert answers[0]["status"] == "success"
    return answers[0]


def test_all_names_are_listed_sorted(server: Server) -> None:
    found = asked(server, "label/__name__/values", **SPAN, limit=0)
    assert found == {"status": "success", "data": [f"browser_{number:05d}" for number in range(METRICS)]}


def test_the_default_limit_of_grafana_cuts_with_a_warning(server: Server) -> None:
    found = asked(server, "label/__name__/values", **SPAN, limit=40_000)
    assert (len(found["data"]), found["warnings"]) == (40_000, ["results truncated due to limit"])
    series = asked(server, "series", **SPAN, limit=1000, **{"match[]": '{team=~".+"}'})
    assert (len(series["data"]), series["warnings"]) == (1000, ["results truncated due to limit"])


def test_a_typed_term_narrows_the_list(server: Server) -> None:
    found = asked(server, "label/__name__/values", **SPAN, limit=40_000, **{"match[]": '{__name__=~".*er_0042.*"}'})
    assert found["data"] == [f"browser_0042{number}" for number in range(10)]
    search = server.request("GET", f"/api/v1/search/metric_names?{urlencode({'search[]': 'er_0042', 'fuzz_threshold': 100, **SPAN})}").text
    assert search.count('"name"') == 10


def test_label_names_and_values_of_a_selection(server: Server) -> None:
    match = {"match[]": '{__name__="browser_00301"}'}
    assert asked(server, "labels", **SPAN, limit=1000, **match)["data"] == ["__name__", "team"]
    assert asked(server, "label/team/values", **SPAN, limit=1000, **match)["data"] == ["team_001"]
    assert len(asked(server, "label/team/values", **SPAN, limit=1000)["data"]) == 300


def test_times_outside_the_data_give_empty_lists(server: Server) -> None:
    for path in ("label/__name__/values", "labels", "series"):
        assert asked(server, path, start=0, end=1000, **{"match[]": '{team=~".+"}'})["data"] == []
