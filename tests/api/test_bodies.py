"""Bodies of requests as clients pack them, and as nobody should."""

import gzip
import zlib
from collections.abc import AsyncIterator
from io import BytesIO

import orjson
import pytest

from promlike.api.body import MAX_BYTES, MAX_FORM_BYTES
from promlike.api.params import MAX_PARAMETERS
from promlike.api.routes import MAX_HEADER_BYTES
from tests.api.conftest import Client

FORM = "application/x-www-form-urlencoded"
ASKED = b"query=1%2B1&time=4"
ANSWER = {"status": "success", "data": {"resultType": "scalar", "result": [4, "2"]}}


async def post(client: Client, body: bytes, content_type: str = FORM, coding: str = "") -> tuple[int, object]:
    headers = {"Content-Type": content_type, **({"Content-Encoding": coding} if coding else {})}
    status, found, answered = await client.request("POST", "/api/v1/query", data=BytesIO(body), headers=headers)
    assert answered["Content-Type"] == "application/json"
    return status, orjson.loads(found)


@pytest.mark.parametrize(
    ("body", "content_type", "coding"),
    [
        (ASKED, FORM, ""),
        (ASKED, FORM.upper(), ""),
        (ASKED, f"{FORM}; charset=nonsense", ""),
        (ASKED, FORM, "identity"),
        (gzip.compress(ASKED, mtime=0), FORM, "gzip"),
        (gzip.compress(ASKED, mtime=0), FORM, " GZIP"),
        (b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\n1+1\r\n--b--\r\n', 'multipart/form-data; boundary="b"', ""),
        (
            b"before\r\n--b\r\ncontent-disposition:form-data;name=query\r\nX: y\r\n\r\n1+1\r\n--b--after",
            "multipart/form-data; boundary=b",
            "",
        ),
    ],
)
async def test_forms_however_they_are_packed(client: Client, body: bytes, content_type: str, coding: str) -> None:
    status, found = await post(client, body, content_type, coding)
    assert status == 200
    assert isinstance(found, dict)
    assert found["data"]["result"][1] == "2"


async def test_a_form_may_come_in_chunks(client: Client) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(ASKED), 5):
            yield ASKED[start : start + 5]

    status, found, _ = await client.request("POST", "/api/v1/query", data=chunks(), headers={"Content-Type": FORM})
    assert (status, orjson.loads(found)) == (200, ANSWER)


@pytest.mark.parametrize(
    "part", ["Content-Transfer-Encoding: nonsense", "Content-Type: text/plain; charset=nonsense", "Content-Encoding: br"]
)
async def test_parts_are_taken_as_they_are(client: Client, part: str) -> None:
    body = f'--b\r\nContent-Disposition: form-data; name="query"\r\n{part}\r\n\r\n3\r\n--b--\r\n'.encode()
    assert (await post(client, body, "multipart/form-data; boundary=b"))[0] == 200


async def test_files_are_no_parameters(client: Client) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="query"; filename="x"\r\n\r\n1\r\n--b--\r\n'
    status, found = await post(client, body, "multipart/form-data; boundary=b")
    assert (status, found) == (400, error("1:1: parse error: no expression found in input", "query"))


@pytest.mark.parametrize(
    ("body", "content_type", "coding", "status", "text"),
    [
        (
            ASKED,
            FORM,
            "gzip",
            400,
            "the body is no gzip, as its Content-Encoding says: Error -3 while decompressing data: incorrect header check",
        ),
        (gzip.compress(ASKED, mtime=0)[:-9], FORM, "gzip", 400, "the body is no whole gzip"),
        (b"", FORM, "gzip", 400, "the body is no whole gzip"),
        (zlib.compress(ASKED), FORM, "deflate", 415, "unsupported Content-Encoding 'deflate' of a form, supported: gzip"),
        (ASKED, FORM, "zstd", 415, "unsupported Content-Encoding 'zstd' of a form, supported: gzip"),
        (ASKED, FORM, "br", 415, "unsupported Content-Encoding 'br' of a form, supported: gzip"),
        (b"a" * (MAX_FORM_BYTES + 1), FORM, "", 413, f"the form has more than the {MAX_FORM_BYTES} bytes allowed"),
        (b"a" * (MAX_BYTES + 1), FORM, "", 413, f"the body has more than the {MAX_BYTES} bytes allowed"),
        (gzip.compress(bytes(200 << 20), 1, mtime=0), FORM, "gzip", 413, f"the form has more than the {MAX_FORM_BYTES} bytes allowed"),
        (b"&" * MAX_PARAMETERS, FORM, "", 400, f"more than {MAX_PARAMETERS} parameters"),
        (b"x", "multipart/form-data", "", 400, "error parsing form values: no multipart boundary param in Content-Type"),
        (b"--b\r\n\r\n1", "multipart/form-data; boundary=b", "", 400, "error parsing form values: multipart: the last boundary is missing"),
    ],
)
async def test_bodies_that_cannot_be_read(client: Client, body: bytes, content_type: str, coding: str, status: int, text: str) -> None:
    assert await post(client, body, content_type, coding) == (status, error(text))


def error(text: str, parameter: str = "") -> object:
    return {"status": "error", "errorType": "bad_data", "error": f'invalid parameter "{parameter}": {text}' if parameter else text}


async def test_what_is_no_form_says_nothing(client: Client) -> None:
    for content_type in ("application/json", "text/plain", "application/octet-stream"):
        assert await post(client, ASKED, content_type) == (400, error("1:1: parse error: no expression found in input", "query"))


async def test_urls_and_headers_may_be_as_long_as_in_go(client: Client) -> None:
    long = "a" * (MAX_HEADER_BYTES - 1000)
    for how in ({"params": {"query": "1+1", "time": "4", "x": long}}, {"params": {"query": "1+1", "time": "4"}, "headers": {"X-A": long}}):
        status, found, _ = await client.request("GET", "/api/v1/query", **how)
        assert (status, orjson.loads(found)) == (200, ANSWER)
    status, found, _ = await client.request("GET", "/api/v1/query", params={"query": "1", "x": 2 * long})
    assert status == 400
    assert b"Traceback" not in found


async def test_nobody_is_told_what_serves_this(client: Client) -> None:
    for path in ("/api/v1/query?query=1", "/api/v1/nothing", "/metrics", "/-/healthy", "/api/v1/query"):
        _, _, headers = await client.request("GET", path)
        assert "Server" not in headers
        assert "Date" in headers
