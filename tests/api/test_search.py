"""Search endpoints: JSON lines in batches, in the words of Prometheus's documentation."""

from typing import Any

import orjson
import pytest

from tests.api.conftest import NOW_MS, Client

METRICS = "/api/v1/search/metric_names"
NAMES = "/api/v1/search/label_names"
VALUES = "/api/v1/search/label_values"
DONE = {"status": "success", "has_more": False}


async def search(client: Client, path: str, *pairs: tuple[str, str], method: str = "GET", **params: str) -> list[Any]:
    """The lines of an answer, which must be a good one."""
    how = {"params": [*pairs, *params.items()]} if method == "GET" else {"data": [*pairs, *params.items()]}
    status, body, headers = await client.request(method, path, **how)
    assert (status, headers["Content-Type"]) == (200, "application/x-ndjson"), body
    assert body.endswith(b"\n")
    return [orjson.loads(line) for line in body.splitlines()]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_names_and_values_with_get_and_post(client: Client, method: str) -> None:
    assert await search(client, METRICS, method=method) == [{"results": [{"name": "http.status"}, {"name": "requests"}]}, DONE]
    assert await search(client, METRICS, ("search[]", "req"), method=method) == [{"results": [{"name": "requests"}]}, DONE]
    names = [{"name": name} for name in ("__name__", "code", "http.code", "job")]
    assert await search(client, NAMES, method=method) == [{"results": names}, DONE]
    found = await search(client, VALUES, ("match[]", 'requests{code="500"}'), label="job", method=method)
    assert found == [{"results": [{"value": "api"}]}, DONE]
    assert await search(client, VALUES, label="U__http_2e_code", method=method) == [{"results": [{"value": "404"}]}, DONE]


async def test_nothing_found_is_a_trailer_alone(client: Client) -> None:
    assert await search(client, METRICS, ("search[]", "nothing")) == [DONE]
    assert await search(client, METRICS, start="0", end="100") == [DONE]


async def test_metadata_and_scores_stand_beside_a_name(client: Client) -> None:
    found = await search(client, METRICS, ("search[]", "req"), include_metadata="true", include_score="1")
    assert found[0]["results"] == [{"name": "requests", "type": "counter", "help": "Requests.", "score": 0.9375}]
    assert (await search(client, METRICS, ("search[]", "http"), include_metadata="true"))[0]["results"] == [{"name": "http.status"}]


async def test_results_come_in_batches_up_to_the_limit(client: Client) -> None:
    lines = await search(client, NAMES, batch_size="2", limit="3")
    assert lines == [
        {"results": [{"name": "__name__"}, {"name": "code"}]},
        {"results": [{"name": "http.code"}]},
        {"status": "success", "has_more": True},
    ]
    assert len(await search(client, NAMES, batch_size="1", limit="0")) == 5


async def test_order_is_by_text_or_the_best_first(client: Client) -> None:
    def names(lines: list[Any]) -> list[str]:
        return [one["name"] for one in lines[0]["results"]]

    assert names(await search(client, NAMES, ("search[]", "code"), sort_by="score")) == ["code", "http.code"]
    assert names(await search(client, NAMES, ("search[]", "o"), sort_by="alpha", sort_dir="dsc")) == ["job", "http.code", "code"]
    assert names(await search(client, NAMES, ("search[]", "OB"), ("search[]", "HTTP"), case_sensitive="false")) == ["http.code", "job"]
    assert names(await search(client, NAMES, ("search[]", "coed"), fuzz_alg="jarowinkler", fuzz_threshold="90")) == ["code"]
    assert names(await search(client, NAMES, ("search[]", "hcd"), start=str(NOW_MS // 1000 - 60))) == ["http.code"]


@pytest.mark.parametrize(
    ("path", "params", "message"),
    [
        (METRICS, {"limit": "-1"}, 'invalid parameter "limit": limit must be non-negative'),
        (METRICS, {"limit": "10001"}, 'invalid parameter "limit": limit 10001 exceeds the maximum of 10000, see --web.search.max-limit'),
        (METRICS, {"batch_size": "x"}, 'invalid parameter "batch_size": strconv.Atoi: parsing "x": invalid syntax'),
        (METRICS, {"fuzz_threshold": "101"}, 'invalid parameter "fuzz_threshold": 101 is not between 0 and 100'),
        (METRICS, {"fuzz_threshold": "nan"}, 'invalid parameter "fuzz_threshold": strconv.ParseFloat: parsing "nan": invalid syntax'),
        (METRICS, {"fuzz_alg": "x"}, 'invalid parameter "fuzz_alg": not supported value "x", subsequence or jarowinkler is needed'),
        (METRICS, {"sort_by": "x"}, 'invalid parameter "sort_by": not supported value "x", alpha or score is needed'),
        (METRICS, {"sort_by": "score", "sort_dir": "asc"}, 'invalid parameter "sort_dir": only valid with sort_by=alpha'),
        (
            METRICS,
            {"case_sensitive": "x"},
            'invalid parameter "case_sensitive": unable to parse boolean: strconv.ParseBool: parsing "x": invalid syntax',
        ),
        (METRICS, {"match[]": "{"}, "1:2: parse error: unexpected end of input inside braces"),
        (VALUES, {}, 'invalid parameter "label": the name of a label is needed'),
        (NAMES, {"start": "x"}, 'invalid parameter "start": Invalid time value for \'start\': cannot parse "x" to a valid timestamp'),
    ],
)
async def test_errors_before_the_stream_are_the_usual_ones(client: Client, path: str, params: dict[str, str], message: str) -> None:
    status, body, headers = await client.request("GET", path, params=params)
    assert (status, headers["Content-Type"]) == (400, "application/json")
    assert orjson.loads(body) == {"status": "error", "errorType": "bad_data", "error": message}


async def test_too_many_terms_are_refused(client: Client) -> None:
    status, body, _ = await client.request("GET", METRICS, params=[("search[]", "a")] * 33)
    assert (status, orjson.loads(body)["error"]) == (400, 'invalid parameter "search[]": 33 search terms, at most 32 are allowed')
