"""`/api/v1/sql` of the HTTP API: formats, limits, errors; what SQL can and cannot do is tested with the stores."""

import csv
import gzip
import io
from typing import Any

import orjson
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no type information
import pytest

from tests.api.conftest import Client

NUMBERS = "SELECT x FROM generate_series(1, {}) AS g(x) ORDER BY x"


async def ask(client: Client, query: str, accept: str = "", prefix: str = "", **params: str) -> tuple[int, bytes, Any]:
    headers = {"Accept": accept} if accept else {}
    return await client.request("POST", f"{prefix}/api/v1/sql", data={"query": query, **params}, headers=headers)


async def rows(client: Client, query: str) -> Any:
    status, body, _ = await ask(client, query)
    assert status == 200, body
    return orjson.loads(body)["data"]["rows"]


async def test_json_has_columns_and_rows(client: Client) -> None:
    status, body, headers = await ask(client, "SELECT 1 AS a, 'x' AS a, NULL AS n")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    columns = [{"name": "a", "type": "INTEGER"}, {"name": "a", "type": "VARCHAR"}, {"name": "n", "type": "NULL"}]
    assert orjson.loads(body) == {"status": "success", "data": {"columns": columns, "rows": [[1, "x", None]]}}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("true", True),
        ("CAST(-1 AS tinyint)", -1),
        ("9223372036854775807", 9223372036854775807),
        ("CAST(18446744073709551615 AS ubigint)", 18446744073709551615),
        ("CAST(0.1 AS double)", 0.1),
        ("CAST(1e300 AS double)", 1e300),
        ("CAST(0.1 AS float)", 0.1),
        ("CAST('NaN' AS double)", "NaN"),
        ("CAST('Infinity' AS float)", "+Inf"),
        ("-CAST('Infinity' AS double)", "-Inf"),
        ("CAST(1.50 AS decimal(10, 2))", 1.5),
        ("CAST(10 AS hugeint)", 10),
        ("'it''s \"quoted\" \\ '", 'it\'s "quoted" \\ '),
        ("concat(chr(1), chr(10), chr(13), chr(9), chr(31), chr(127), '\u2028', 'ä💥')", "\x01\n\r\t\x1f\x7f\u2028ä💥"),
        ("''", ""),
        ("DATE '2026-03-11'", "2026-03-11"),
        ("DATE 'infinity'", "infinity"),
        ("TIMESTAMP '2026-03-11 12:00:00'", "2026-03-11T12:00:00"),
        ("TIMESTAMPTZ '2026-03-11 12:00:00.5+02'", "2026-03-11T10:00:00.500Z"),
        ("TIMESTAMPTZ '2026-03-11 12:00:00.000001+00'", "2026-03-11T12:00:00.000001Z"),
        ("TIMESTAMPTZ '1815-12-10 00:00:00+00'", "1815-12-10T00:00:00Z"),
        ("CAST('infinity' AS timestamptz)", "infinity"),
        ("CAST('-infinity' AS timestamp)", "-infinity"),
        ("CAST(TIMESTAMP '2026-03-11 12:00:00.123456' AS timestamp_ns)", "2026-03-11T12:00:00.123456"),
        ("INTERVAL '90 minutes'", "01:30:00"),
        ("CAST('x' AS blob)", "x"),
        ("CAST('00000000-0000-0000-0000-000000000001' AS uuid)", "00000000-0000-0000-0000-000000000001"),
        ("TIME '12:00:00'", "12:00:00"),
        ("CAST('a' AS ENUM ('a', 'b'))", "a"),
        ("CAST('{\"a\": [1, null]}' AS json)", {"a": [1, None]}),
        ("[1, 2]", [1, 2]),
        ("{'a': CAST('NaN' AS double), 'b': [-CAST('Infinity' AS double)], 'c': 'NaN'}", {"a": "NaN", "b": ["-Inf"], "c": "NaN"}),
        ("MAP {'k': 1}", {"k": 1}),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
async def test_values_in_json(client: Client, expression: str, value: object) -> None:
    """Beside a NULL before and after it."""
    query = f"SELECT CASE WHEN x = 2 THEN {expression} END AS v FROM range(1, 4) AS g(x) ORDER BY x"
    assert await rows(client, query) == [[None], [value], [None]]


async def test_times_of_several_rows_have_what_one_of_them_needs(client: Client) -> None:
    times = "VALUES (TIMESTAMP '2026-03-11 12:00:00'), (TIMESTAMP '2026-03-11 12:00:00.25'), (NULL)"
    assert await rows(client, times) == [["2026-03-11T12:00:00.000"], ["2026-03-11T12:00:00.250"], [None]]


async def test_csv_is_that_of_the_rfc(client: Client) -> None:
    query = "SELECT 'a,\"b' AS \"x,y\", '' AS empty, NULL AS n, 1.5::double AS v, 'NaN'::double AS nan, [1] AS l, 'plain' AS p"
    status, body, headers = await ask(client, query, format="csv")
    assert (status, headers["Content-Type"]) == (200, "text/csv; charset=utf-8; header=present")
    assert body == b'"x,y",empty,n,v,nan,l,p\r\n"a,""b","",,1.5,NaN,[1],plain\r\n'
    lines = "SELECT concat('a', chr(10), 'b') AS v UNION ALL SELECT concat('c', chr(13)) UNION ALL SELECT 'd' ORDER BY 1"
    _, body, _ = await ask(client, lines, format="csv")
    assert list(csv.reader(io.StringIO(body.decode(), newline=""))) == [["v"], ["a\nb"], ["c\r"], ["d"]]
    _, body, _ = await ask(client, "SELECT NULL AS n UNION ALL SELECT NULL", format="csv")
    assert body == b"n\r\n\r\n\r\n"


async def test_arrow_has_types(client: Client) -> None:
    query = "SELECT x, x / 2.0::double AS half, now() AS t, 'a' AS a, [x] AS l FROM range(50000) AS g(x) ORDER BY x"
    status, body, headers = await ask(client, query, format="arrow")
    assert (status, headers["Content-Type"]) == (200, "application/vnd.apache.arrow.stream")
    table = pa.ipc.open_stream(body).read_all()
    assert table.schema.types == [pa.int64(), pa.float64(), pa.timestamp("us", "UTC"), pa.string(), pa.string()]
    assert table.schema.names == ["x", "half", "t", "a", "l"]
    assert table.schema.field("l").metadata == {b"sql_type": b"BIGINT[]"}
    assert table["x"].to_pylist() == list(range(50_000))
    assert table["l"][7].as_py() == "[7]"


@pytest.mark.parametrize("kind", ["json", "csv", "arrow"])
async def test_answers_without_rows(client: Client, kind: str) -> None:
    status, body, _ = await ask(client, "SELECT 1 AS a, 'x' AS b WHERE false", format=kind)
    assert status == 200
    if kind == "arrow":
        assert pa.ipc.open_stream(body).read_all().to_pydict() == {"a": [], "b": []}
    elif kind == "csv":
        assert body == b"a,b\r\n"
    else:
        assert orjson.loads(body)["data"]["rows"] == []


async def test_long_answers_come_whole_and_in_order(client: Client) -> None:
    assert await rows(client, NUMBERS.format(130_000)) == [[x] for x in range(1, 130_001)]
    _, body, _ = await ask(client, NUMBERS.format(130_000), format="csv")
    assert body.split() == [b"x", *(b"%d" % x for x in range(1, 130_001))]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/html, */*;q=0.8", "application/json"),
        ("text/csv", "text/csv"),
        ("application/json;q=0.5, text/csv;q=0.9", "text/csv"),
        ("text/csv;q=x, application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.stream"),
    ],
)
async def test_accept_chooses_the_format(client: Client, accept: str, kind: str) -> None:
    status, _, headers = await ask(client, "SELECT 1", accept)
    assert (status, headers["Content-Type"].split(";")[0]) == (200, kind)
    assert headers["Vary"] == "Accept-Encoding, Accept"
    status, _, headers = await ask(client, "SELECT 1", accept, format="csv")
    assert headers["Content-Type"].startswith("text/csv")


@pytest.mark.parametrize("kind", ["json", "csv", "arrow"])
async def test_gzip(client: Client, kind: str) -> None:
    query = {"query": NUMBERS.format(60_000), "format": kind}
    _, plain, _ = await client.request("GET", "/api/v1/sql", params=query)
    status, body, headers = await client.request("GET", "/api/v1/sql", params=query, headers={"Accept-Encoding": "gzip"})
    assert (status, headers["Content-Encoding"]) == (200, "gzip")
    assert gzip.decompress(body) == plain


async def test_a_limit_cuts_and_json_says_so(client: Client) -> None:
    for limit, found in (("7", 7), ("30000", 30_000)):
        _, body, _ = await ask(client, NUMBERS.format(100_000), limit=limit)
        answer = orjson.loads(body)
        assert answer["data"]["rows"] == [[x] for x in range(1, found + 1)]
        assert answer["warnings"] == ["results truncated due to limit"]
    _, body, _ = await ask(client, NUMBERS.format(7), limit="9223372036854775807")
    assert "warnings" not in orjson.loads(body)
    _, body, _ = await ask(client, NUMBERS.format(7), limit="7")
    assert "warnings" not in orjson.loads(body)
    _, body, _ = await ask(client, NUMBERS.format(100), limit="2", format="csv")
    assert body == b"x\r\n1\r\n2\r\n"


async def test_the_server_has_a_limit_too(open_client: Client) -> None:
    """50 rows; what cannot say that it was cut is refused instead, unless the client knows."""
    for limit in ("0", "51", "9223372036854775807"):
        _, body, _ = await ask(open_client, NUMBERS.format(51), prefix="/prom", limit=limit)
        answer = orjson.loads(body)
        assert (len(answer["data"]["rows"]), answer["warnings"]) == (50, ["results truncated due to limit"])
    for kind in ("csv", "arrow"):
        status, body, _ = await ask(open_client, NUMBERS.format(51), prefix="/prom", format=kind)
        assert (status, orjson.loads(body)["errorType"]) == (422, "execution")
        assert "more than 50 rows" in orjson.loads(body)["error"]
        for query, limit in ((NUMBERS.format(50), "0"), (NUMBERS.format(51), "50")):
            status, _, _ = await ask(open_client, query, prefix="/prom", format=kind, limit=limit)
            assert status == 200


@pytest.mark.parametrize(
    ("query", "params", "status", "kind", "said"),
    [
        ("", {}, 400, "bad_data", 'invalid parameter "query": no SQL statement'),
        ("selec 1", {}, 400, "bad_data", "LINE 1: selec 1"),
        ("SELECT nosuch", {}, 400, "bad_data", "nosuch"),
        ("DROP TABLE samples", {}, 400, "bad_data", "DROP is no statement that only reads"),
        ("SELECT 1; SELECT 2", {}, 400, "bad_data", "only one may be asked at a time"),
        ("SELECT * FROM read_csv('/etc/passwd')", {}, 400, "bad_data", "read_csv may not be called"),
        ("SELECT '" + "x" * 100_000 + "'", {}, 400, "bad_data", "100009 characters, 100000 are allowed"),
        ("SELECT CAST('x' AS integer)", {}, 422, "execution", "Could not convert string 'x' to INT32"),
        ("SELECT 1", {"timeout": "0"}, 503, "timeout", "query timed out in "),
        ("SELECT 1", {"timeout": "x"}, 400, "bad_data", "timeout"),
        ("SELECT 1", {"limit": "-1"}, 400, "bad_data", "limit must be non-negative"),
        ("SELECT 1", {"limit": "x"}, 400, "bad_data", "strconv"),
        ("SELECT 1", {"format": "xml"}, 400, "bad_data", "json or csv or arrow"),
        ("SELECT 1", {"extra_label": "job=api"}, 400, "bad_data", "SQL cannot be held to some series"),
        ("SELECT 1", {"extra_filters[]": '{job="api"}'}, 400, "bad_data", "SQL cannot be held to some series"),
        ("SELECT 1", {"extra_filters": '{job="api"}'}, 400, "bad_data", "SQL cannot be held to some series"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
async def test_errors(client: Client, query: str, params: dict[str, str], status: int, kind: str, said: str) -> None:
    for headers in ({}, {"Accept-Encoding": "gzip", "Accept": "text/csv"}):
        found, body, answered = await client.request("POST", "/api/v1/sql", data={"query": query, **params}, headers=headers)
        answer = orjson.loads(gzip.decompress(body) if answered.get("Content-Encoding") == "gzip" else body)
        assert (found, answer["status"], answer["errorType"]) == (status, "error", kind)
        assert said in answer["error"]
        assert answered["Content-Type"] == "application/json"


async def test_features_say_whether_it_is_on(client: Client) -> None:
    assert (await client.get("features"))["data"]["api"]["sql"] is True


async def test_what_was_flushed_is_seen(client: Client) -> None:
    """And nothing else: the samples of `client` are in memory alone."""
    assert await rows(client, "SELECT count(*) FROM promlike.samples") == [[0]]
    assert await rows(client, "SELECT count(*) FROM promlike.series") == [[0]]
