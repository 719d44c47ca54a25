"""Requests that no client should send, to a real Prometheus and to promlike: the same status, errorType and text, and nothing breaks."""

import time
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.differential.pair import Pair
from tests.servers import Response, prometheus, promlike

FLAGS = ("--web.enable-admin-api", r"--web.cors.origin=https?://(a|b)\.org")
NASTY = '<b>&"é\u2028\u2029\u0000\\'
"""A label value with everything that JSON inside HTML has to escape."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    now = int(time.time()) // 60 * 60
    request = WriteRequest()
    for name, job in (("nasty", NASTY), ("up", "api"), ("up", "web")):
        series = request.timeseries.add()
        series.labels.add(name=b"__name__", value=name.encode())
        series.labels.add(name=b"job", value=job.encode())
        for age in (60, 45, 30, 15, 0):
            series.samples.add(timestamp=(now - age) * 1000, value=1.5)
    with prometheus(tmp_path_factory.mktemp("theirs"), *FLAGS) as theirs, promlike(tmp_path_factory.mktemp("ours"), *FLAGS) as ours:
        for server in (ours, theirs):
            assert server.write(request).status == 204
        yield Pair(ours=ours, theirs=theirs, end_ms=now * 1000)


def shown(answer: Response) -> tuple[int, str | None, str]:
    return answer.status, answer.headers.get("Content-Type"), answer.text


def assert_same(both: Pair, path: str, method: str = "GET") -> None:
    ours, theirs = (shown(server.request(method, f"/api/v1/{path}")) for server in (both.ours, both.theirs))
    # Since 2.43 range queries, too, say which parameter an error is about.
    text = ours[2].replace('invalid parameter \\"query\\": ', "") if path.startswith("query_range") else ours[2]
    assert (*ours[:2], text) == theirs


@pytest.mark.parametrize(
    "path",
    [
        "query?query=nasty&time={at}",
        "query?query=nasty[50s]&time={at}",
        "query_range?query=nasty&start={at}&end={at}&step=1",
        'query?query="<%26>"&time={at}',
        'query?query=count_values("x",up)*on()group_left(job)nasty&time={at}',
        "series?match[]=nasty",
        "label/job/values",
        "labels?match[]=nasty",
        "format_query?query=a<b",
        "query?query=<%26>",
        "query?query=up{{<}}",
        "rules?type=<",
        "metadata?metric=<",
        "query_exemplars?query=nasty&start=<",
    ],
)
def test_json_is_safe_inside_html(both: Pair, path: str) -> None:
    assert_same(both, path.format(at=both.end_ms // 1000))


ODD = ["", "x", "%00", "-1", "0", "1e999", "-1e999", "%F0%9F%98%80", '"', "a%0ab", "{}", "0x10", "00", "1e-400", "%2B1", "1.5", "%D9%A3"]
LONG = ["1" * 5000, "a" * 5000, "%20" * 5000, "%22" + "a" * 5000 + "%22"]


@pytest.mark.parametrize("text", [*ODD, *LONG])
@pytest.mark.parametrize(
    "path",
    [
        *("query?time=5&query=", "query?query=1&time=", "format_query?query=", "query_range?start=5&end=6&step=1&query="),
        *("query_range?query=1&end=6&step=1&start=", "query_range?query=1&start=5&step=1&end=", "query_range?query=1&start=5&end=6&step="),
        *("query_exemplars?start=5&end=6&query=", "query_exemplars?query=up&end=6&start=", "query_exemplars?query=up&start=5&end="),
        *("series?match[]=", "series?match[]=up&start=", "series?match[]=up&end=", "labels?match[]=", "labels?start=", "labels?end="),
        *("label/job/values?match[]=", "label/job/values?start=", "label/job/values?end=", "metadata?limit=", "metadata?metric="),
        *("targets/metadata?match_target=", "targets/metadata?metric=", "targets/metadata?limit=", "rules?type="),
    ],
)
def test_odd_parameters(both: Pair, path: str, text: str) -> None:
    if text or not path.endswith("&time="):  # without a time, each answers for its own now
        assert_same(both, path + quote(text, safe="%"))


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("name", ["match[]", "start", "end"])
def test_odd_parameters_of_deletions(both: Pair, name: str, text: str) -> None:
    """Of series that are not there; an empty selector is one that fits everything, so that is left to other tests."""
    params = urlencode({"match[]": "nothing"} if name != "match[]" else {})
    if name != "match[]" or text != "{}":
        assert_same(both, f"admin/tsdb/delete_series?{params}&{name}={quote(text, safe='%')}", "POST")


@pytest.mark.parametrize("text", ["Inf", "-Inf", "%2BInf", "inf", "Infinity", "1e18", "1e300"])
def test_labels_may_be_asked_for_from_and_to_infinity(both: Pair, text: str) -> None:
    """Both answer; where Prometheus's times overflow, it finds what it should not, or nothing."""
    for path in ("series?match[]=up&", "labels?", "label/job/values?"):
        for name in ("start", "end"):
            for server in (both.ours, both.theirs):
                assert server.get(f"/api/v1/{path}{name}={text}").status == 200
    found = both.ours.get(f"/api/v1/label/job/values?match[]=up&start=-{text.lstrip('-%2B')}&end={text.lstrip('-%2B')}").json()
    assert found["data"] == ["api", "web"]


@pytest.mark.parametrize("text", ["NaN", "Inf", "-Inf", "1e18", "1e300", "9223372036854775807"])
def test_queries_at_times_that_no_clock_shows_are_refused(both: Pair, text: str) -> None:
    """Known to differ: Prometheus lets such times overflow and answers for some other time."""
    assert both.theirs.get("/api/v1/query", query="time()", time=text).status == 200
    for asked in ({"time": text}, {"start": text, "end": "5", "step": "1"}, {"start": "5", "end": text, "step": "1"}):
        answer = both.ours.get("/api/v1/query" if "time" in asked else "/api/v1/query_range", query="time()", **asked)
        assert (answer.status, answer.json()["errorType"]) == (400, "bad_data")
        assert answer.json()["error"].endswith(f'cannot parse "{text}" to a valid timestamp')


@pytest.mark.parametrize(
    "query",
    [
        *("up averylongidentifier", "up averylong:metric", "up 123456789012345", 'up "averylongstring"', "up 'averylongstring'"),
        *("up `averylongstring`", "up 1234567890h", "up 1234567890", "1.5e400", "up @ 1e400", "a\x7f", "\x01", "\x85", "\\", "$", "1 ='"),
        *("1 !", "1 =\x00", "up{a!'b'}", "up{a!", "up{a!\n}", "up{\x00}", "up{a=\x00}", "up{'", 'up{a="', "`", '1 ="', "!", "=", "up{\\}"),
        *('up{job="\\xff"}', '"\\x00"', 'up{job="\\x00"}', "up{a='\u2028'}"),
    ],
)
def test_what_parse_errors_say(both: Pair, query: str) -> None:
    assert_same(both, f"query?time={both.end_ms // 1000}&query={quote(query)}")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "POST", "DELETE", "PATCH", "TRACE"])
@pytest.mark.parametrize(
    "path",
    [
        *(
            "/api",
            "/api/v1/",
            "/api/v1/query",
            "/api/v1/labels",
            "/api/v1/targets",
            "/api/v1/rules",
            "/api/v1/status/config",
            "/favicon.ico",
        ),
        *("/-/", "/-/healthy", "/-/ready", "/-/reload", "/-/quit", "/api/v1/admin/tsdb/delete_series", "/API/V1/query", "/version"),
        *("/api/v1/query%3Fquery=1", "/api/v1/query;a=b", "/api/v1/%71uery?query=1&time=4", "/api/v1/format_query", "/federate/x"),
    ],
)
def test_methods(both: Pair, method: str, path: str) -> None:
    ours, theirs = (server.request(method, path) for server in (both.ours, both.theirs))
    assert (ours.status, ours.headers.get("Allow")) == (theirs.status, theirs.headers.get("Allow"))
    if theirs.status != 200:
        assert ours.text == theirs.text


ORIGINS = ["http://a.org", "https://b.org", "http://c.org", "http://a.org.evil", "null", ""]


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("path", ["/api/v1/query?query=1", "/api/v1/query?query=(", "/api/v1/nothing", "/api/v1/write", "/metrics", "/-/"])
def test_origins_by_pattern(both: Pair, origin: str, path: str) -> None:
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    for method, more in (("GET", {}), ("OPTIONS", asking)):
        ours, theirs = (server.request(method, path, headers={"Origin": origin, **more}) for server in (both.ours, both.theirs))
        sent = [{name: text for name, text in answer.headers.items() if name.startswith("Access-")} for answer in (ours, theirs)]
        assert (ours.status, sent[0]) == (theirs.status, sent[1])
        assert ours.headers.get("Vary", "").endswith("Origin") == (theirs.headers.get("Vary") == "Origin")


@pytest.mark.parametrize("count", [1, 2, 2000])
def test_parameters_that_stand_several_times(both: Pair, count: int) -> None:
    for path in ("query?" + "query=1&time=4&" * count, "series?" + "match[]=up&" * count, "query?query=1&time=4" + "&x=1" * count):
        assert_same(both, path)
    for path in ("labels?match[]=&match[]=up", "series?match[]=up&match[]=", "label/job/values?match[]={}", "query?time=4&query=&query=1"):
        assert_same(both, path)
