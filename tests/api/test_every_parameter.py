"""Every parameter of every endpoint with values that nobody should send: an envelope with a status of its own, never an internal error."""

import logging

import orjson
import pytest

from promlike.api.openapi_parts import JSON, NDJSON, Operation
from promlike.api.openapi_table import OPERATIONS
from tests.api.conftest import Client

ODD = [
    *(
        "",
        " ",
        "x",
        "\0",
        "-1",
        "0",
        "1",
        "1.5",
        "1e999",
        "-1e999",
        "1e308",
        "NaN",
        "Inf",
        "-Inf",
        "+Inf",
        "0x10",
        "1_0",
        "٣",
        "💥",
        '"',
        "<a>&",
    ),
    *("\ufffd", "\u2028", "a\nb", "{}", "{", '{__name__=~".+"}', '{__name__=~"("}', "up", "[]", "null", '{"a":"b"}', '{"a":1}', "[" * 2000),
    *(
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "18446744073709551616",
        "true",
        "TRUE",
        "T",
        "../..",
        "U__",
        "U__zz",
    ),
    *("U__110000_", "U__d800_", "292277025-08-18T07:12:54.999999999Z", "-292273086-05-16T16:47:06Z", "0001-01-01T00:00:00Z"),
    *("9999-12-31T23:59:59Z", "1y1w1d1h1m1s1ms", "1000000y", "-5m", "(" * 2000, "1" * 5000, "a" * 5000, "%00%ff", "count_values", "sum()"),
]
NEEDED = {"query": "requests", "match[]": "requests", "start": "1699999900", "end": "1700000000", "step": "15", "label": "job"}
"""What other parameters get, so that the odd one is looked at."""

STATUSES = {200, 204, 400, 404, 422, 503}
ENDLESS = "/api/v1/notifications/live"
LAST_METHOD = [(operation, operation.methods.split()[-1]) for operation in OPERATIONS if operation.path != ENDLESS]
ADMIN = "/api/v1/admin"


@pytest.mark.parametrize(("operation", "method"), LAST_METHOD, ids=[f"{method} {operation.path}" for operation, method in LAST_METHOD])
async def test_odd_values_of_every_parameter(client: Client, operation: Operation, method: str, caplog: pytest.LogCaptureFixture) -> None:
    names = [parameter.name for parameter in operation.parameters]
    for name in names:
        for value in ODD:
            pairs = [(other, text) for other, text in NEEDED.items() if other in names and other != name]
            await ask(client, operation, method, [*pairs, (name, value)])
            await ask(client, operation, method, [*pairs, (name, value), (name, "x")])
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_odd_values_of_administrative_calls(open_client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Of series that are not there."""
    for operation in (one for one in OPERATIONS if one.path.startswith(ADMIN)):
        for name in (parameter.name for parameter in operation.parameters if parameter.name != "match[]"):
            for value in ODD:
                await ask(open_client, operation, "POST", [("match[]", 'nothing{a="b"}'), (name, value)], "/prom")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def ask(client: Client, operation: Operation, method: str, pairs: list[tuple[str, str]], prefix: str = "") -> None:
    path = prefix + operation.path.replace("{name}", "job")
    how = {"data": pairs} if method != "GET" and operation.parameters else {"params": pairs}
    status, body, headers = await client.request(method, path, **how)
    assert status in STATUSES, (path, pairs, body[:300])
    if operation.answers in (JSON, NDJSON) and status != 204:
        for line in body.splitlines() if operation.answers == NDJSON else [body]:
            found = orjson.loads(line)
            assert found.get("status", "success") == ("success" if status == 200 else "error"), (path, pairs, line[:300])
        if status != 200:
            assert list(orjson.loads(body)) == ["status", "errorType", "error"]
            assert headers["Content-Type"] == "application/json"


LABELS = [
    *(
        "U__",
        "U__http_2e_code",
        "U__http_zz_code",
        "U__d800_",
        "U___",
        "U____",
        "%2F",
        "%00",
        "%ff",
        "%F0%9F%92%A5",
        "..%2f..",
        "a b",
        "1a",
    ),
    *("__name__", "a" * 10_000),
]


@pytest.mark.parametrize("name", LABELS)
async def test_odd_label_names(client: Client, name: str) -> None:
    for method in ("GET", "POST"):
        status, body, _ = await client.request(method, f"/api/v1/label/{name}/values")
        assert status in (200, 301, 400, 404), body
        if status == 200:
            assert isinstance(orjson.loads(body)["data"], list)
