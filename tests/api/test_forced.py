"""Conditions that a proxy adds to requests: nobody sees series that do not satisfy them, however they ask."""

from typing import Any

import orjson
import pytest

from promlike.errors import BadRequest
from promlike.promql.narrow import narrowed
from promlike.promql.options import Features
from promlike.promql.parser import parse
from promlike.promql.printer import format_expr
from promlike.promql.series_selector import series_selector
from tests.api.conftest import NOW_MS, Client

NOW = str(NOW_MS // 1000)
WEB = ("extra_filters[]", '{job="web"}')
EVERYTHING = ("match[]", '{__name__=~".+"}')


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a", 'a{t="1"}'),
        ('{b="c"}', '{b="c",t="1"}'),
        ('a{t="2"}', 'a{t="1",t="2"}'),
        ("rate(a[5m] offset 1m) + on (x) group_left () (b)", 'rate(a{t="1"}[5m] offset 1m) + on (x) group_left () (b{t="1"})'),
        ("sum by (x) (topk(scalar(a), -b))", 'sum by (x) (topk(scalar(a{t="1"}), -b{t="1"}))'),
        ("max_over_time(a[5m:1m] @ end())", 'max_over_time(a{t="1"}[5m:1m] @ end())'),
        ('label_replace(a, "x", "y", "z", "w") > bool 2', 'label_replace(a{t="1"}, "x", "y", "z", "w") > bool 2'),
        ("1", "1"),
        ('"a"', '"a"'),
    ],
)
def test_every_selector_gets_them(text: str, wanted: str) -> None:
    expr = parse(text, Features())
    assert format_expr(narrowed(expr, series_selector('{t="1"}'))) == format_expr(parse(wanted.replace("{{", "{"), Features()))
    assert expr == parse(text, Features())


def test_info_is_refused_because_it_selects_on_its_own() -> None:
    with pytest.raises(BadRequest, match=r"info\(\) cannot be held to series of some labels"):
        narrowed(parse("sum(info(a))", Features.all()), series_selector('{t="1"}'))


async def jobs(client: Client, *pairs: tuple[str, str], query: str = "requests", path: str = "query") -> Any:
    answer = await client.post(path, *pairs, query=query, time=NOW, start=NOW, end=NOW, step="1")
    assert answer["code"] == 200, answer
    return sorted({one["metric"].get("job") for one in answer["data"]["result"]})


async def test_queries(client: Client) -> None:
    for path in ("query", "query_range"):
        for _ in range(2):  # the second answer may come from the cache
            assert await jobs(client, path=path) == ["api", "web"]
            assert await jobs(client, WEB, path=path) == ["web"]
            assert await jobs(client, ("extra_label", "job=web"), path=path) == ["web"]
        assert await jobs(client, WEB, path=path, query='requests{job="api"} or requests') == ["web"]
        assert await jobs(client, WEB, ("extra_filters", '{code="500"}'), path=path) == []
        assert await jobs(client, ("extra_label", "job=api"), ("extra_label", "code=500"), path=path) == ["api"]
    assert (await client.get("query", WEB, query="count({__name__=~'.+'})", time=NOW))["data"]["result"][0]["value"][1] == "1"


async def test_labels_series_search_and_cardinality(client: Client) -> None:
    assert (await client.get("labels", WEB))["data"] == ["__name__", "code", "job"]
    assert (await client.get("label/job/values", WEB))["data"] == ["web"]
    assert (await client.get("label/job/values", WEB, ("match[]", 'requests{job="api"}')))["data"] == []
    assert [one["job"] for one in (await client.get("series", WEB, EVERYTHING))["data"]] == ["web"]
    for path, name in (("label_values", "value"), ("metric_names", "name")):
        params = [WEB, ("label", "job")] if path == "label_values" else [WEB]
        _, body, _ = await client.request("GET", f"/api/v1/search/{path}", params=params)
        assert [one[name] for one in orjson.loads(body.splitlines()[0])["results"]] == ["web" if name == "value" else "requests"]
    assert (await client.get("status/tsdb", WEB))["data"]["seriesCountByMetricName"] == [{"name": "requests", "value": 1}]


async def test_deletions(open_client: Client) -> None:
    for pair, count in ((WEB, 1), (("extra_label", "job=nothing"), 0)):
        params = [EVERYTHING, pair, ("dry_run", "true")]
        _, body, _ = await open_client.request("POST", "/prom/api/v1/admin/tsdb/delete_series", params=params)
        assert orjson.loads(body)["data"] == {"series": count}


NO_NAMES = 'invalid parameter "extra_filters[]": conditions are on labels, not on the name of a metric'


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("extra_filters[]", "up{"), 'invalid parameter "extra_filters[]": 1:4: parse error: unexpected end of input inside braces'),
        (("extra_filters[]", "up"), NO_NAMES),
        (
            ("extra_filters", '{__name__=~"a"}'),
            'invalid parameter "extra_filters[]": conditions are on labels, not on the name of a metric',
        ),
        (("extra_label", "job"), "invalid parameter \"extra_label\": 'job' is not name=value, with the name of a label"),
        (("extra_label", "__name__=up"), "invalid parameter \"extra_label\": '__name__=up' is not name=value, with the name of a label"),
    ],
)
async def test_conditions_that_cannot_be_read(client: Client, pair: tuple[str, str], message: str) -> None:
    for path in ("query", "query_range", "query_exemplars", "labels", "series", "status/tsdb"):
        answer = await client.get(path, pair, EVERYTHING, query="up", start=NOW, end=NOW, step="1")
        assert (answer["code"], answer["error"].replace('invalid parameter "match[]": ', "")) == (400, message), path
