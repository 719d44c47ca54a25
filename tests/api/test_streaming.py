"""Streams that break off: where a format can say so it does, otherwise nobody takes what was sent for all."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable

import pytest
import pytest_asyncio
from aiohttp import ClientPayloadError, ClientSession, web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler

from promlike.api.envelope import Stream, error_json
from promlike.api.streaming import respond_stream
from promlike.errors import QueryError, StoreAway

OnError = Callable[[str, str], bytes]


async def parts(error: Exception, good: int) -> AsyncGenerator[bytes, None]:
    for number in range(good):
        yield b"%d\n" % number
    raise error


def last_line(error_type: str, text: str) -> bytes:
    return error_json(error_type, text) + b"\n"


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    """`/lines` can say that it failed, `/bytes` cannot; both fail after two parts."""

    def failing(on_error: OnError | None, error: Exception) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await respond_stream(request, Stream(content_type="text/plain", parts=parts(error, 2), on_error=on_error))

        return handle

    application = web.Application()
    application.router.add_get("/lines", failing(last_line, StoreAway("gone <fishing>")))
    application.router.add_get("/bug", failing(last_line, ZeroDivisionError()))
    application.router.add_get("/bytes", failing(None, QueryError("no")))
    server = TestServer(application)
    await server.start_server()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.close()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("lines", '{"status":"error","errorType":"unavailable","error":"gone \\u003cfishing\\u003e"}'),
        ("bug", '{"status":"error","errorType":"internal","error":"ZeroDivisionError"}'),
    ],
)
async def test_the_last_line_says_what_went_wrong(url: str, path: str, text: str) -> None:
    async with ClientSession() as session, session.get(f"{url}/{path}") as answer:
        assert (answer.status, await answer.text()) == (200, f"0\n1\n{text}\n")


async def test_what_cannot_say_so_is_cut(url: str) -> None:
    async with ClientSession() as session, session.get(f"{url}/bytes") as answer:
        assert answer.status == 200
        with pytest.raises(ClientPayloadError):
            await answer.read()
