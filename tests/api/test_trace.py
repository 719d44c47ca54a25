"""`trace=1`: what was done for an answer goes with it, and changes nothing else about it."""

import pytest

from tests.api.conftest import NOW_MS, Client
from tests.traces import Tree, messages, number, steps

NOW = NOW_MS // 1000
RANGE = {"start": str(NOW - 300), "end": str(NOW), "step": "15"}
QUERY = "sum by (job) (rate(requests[1m]))"


async def traced(client: Client, path: str, params: dict[str, str]) -> Tree:
    """The trace, once everything else of the answer is as without."""
    answer = await client.post(path, *params.items(), trace="1", nocache="1")
    tree: Tree = answer.pop("trace")
    assert answer == await client.post(path, *params.items(), nocache="1")
    assert "trace" not in answer
    return tree


async def test_an_instant_query(client: Client) -> None:
    tree = await traced(client, "query", {"query": QUERY, "time": str(NOW)})
    assert tree["message"].endswith(f": /api/v1/query: query={QUERY}, time={NOW}, nocache=1")
    assert number(tree, '{__name__="requests"}', "series") == 3
    assert number(tree, '{__name__="requests"}', "samples in memory") == 3 * 4
    assert number(tree, "rate(requests[1m])", "series") == 3
    assert number(tree, "sum by (job)", "series") == 2
    assert number(tree, "encode", "samples") == 2
    assert all(set(step) <= {"duration_msec", "message", "children"} for step in steps(tree))
    assert all(step["duration_msec"] <= tree["duration_msec"] for step in steps(tree))


async def test_a_range_query(client: Client) -> None:
    tree = await traced(client, "query_range", {"query": QUERY, **RANGE})
    assert number(tree, "rate(requests[1m])", "steps") == 21
    assert number(tree, "encode", "samples") == 2 * 21
    assert messages(tree, "look into") == ["look into the result cache: switched off"]


async def test_what_the_cache_had_is_told(client: Client) -> None:
    first = (await client.get("query_range", query=QUERY, trace="1", **RANGE))["trace"]
    assert number(first, "look into", "steps") == 0
    assert number(first, "evaluate", "steps") == 21
    again = await client.get("query_range", query=QUERY, trace="1", **RANGE)
    assert number(again["trace"], "look into", "steps") == 21
    assert not messages(again["trace"], "evaluate")
    assert number(again["trace"], "put together", "points") == 2 * 21
    longer = (await client.get("query_range", query=QUERY, trace="1", **RANGE | {"start": str(NOW - 360)}))["trace"]
    assert number(longer, "look into", "steps") == 21
    assert number(longer, "evaluate", "steps") == number(longer, "rate(requests[1m])", "steps") == 4
    plain = await client.get("query_range", query=QUERY, **RANGE)
    again.pop("trace")
    assert plain == again


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("sort(requests)", "steps may depend on others, or on the range"),
        ("sum_over_time(requests[5s:5s])", "of a subquery with gaps"),
        pytest.param("requests" + " " * 5000, "the query is too long", id="long"),
    ],
)
async def test_why_an_answer_is_not_kept(client: Client, query: str, why: str) -> None:
    tree = (await client.post("query_range", *RANGE.items(), query=query, trace="true"))["trace"]
    (message,) = messages(tree, "look into")
    assert message.startswith("look into the result cache: not used, because")
    assert message.endswith(why)


async def test_long_and_deep_queries_have_traces_that_can_be_written(client: Client) -> None:
    tree = (await client.post("query", query=f"requests{'+1' * 900}", time=str(NOW), trace="1"))["trace"]
    assert "are not shown)" in tree["message"]
    assert max(map(len, (step["message"] for step in steps(tree)))) < 2000
    answer = await client.post("query", query='requests{job="\\xff"}', time=str(NOW), trace="1")
    assert answer["data"]["result"] == []
    assert number(answer["trace"], "{__name__", "series") == 0


async def test_errors_and_answers_that_are_not_asked_for_one_have_none(client: Client) -> None:
    assert (await client.get("query", query="sum(", trace="1")).keys() == {"status", "errorType", "error", "code"}
    for off in ("0", "false"):
        assert "trace" not in await client.get("query", query="1", trace=off)
    answer = await client.get("query", query="1", trace="maybe")
    assert answer["error"] == 'invalid parameter "trace": unable to parse boolean: strconv.ParseBool: parsing "maybe": invalid syntax'
