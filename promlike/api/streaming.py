"""Answers that are sent in parts, as they are made."""

from contextlib import aclosing
from logging import getLogger

from aiohttp import web

from promlike.api.envelope import Stream
from promlike.api.errors import status_of

log = getLogger(__name__)


async def respond_stream(request: web.Request, stream: Stream) -> web.StreamResponse:
    """200 with the parts. Raises what making the first of them raises.

    Later it is too late for another status: the stream says itself what went wrong where its format can, else the connection is cut, so
    that nobody takes it for the end.
    """
    async with aclosing(stream.parts) as parts:
        first = await anext(parts, b"")
        response = web.StreamResponse(headers=stream.headers)
        await response.prepare(request)
        try:
            await response.write(first)
            async for part in parts:
                await response.write(part)
            await response.write_eof()
        except ConnectionError:
            _cut(request)
        except Exception as error:  # noqa: BLE001 - as in `routes`, here errors become what the client gets
            await _say(request, response, stream, error)
    return response


async def _say(request: web.Request, response: web.StreamResponse, stream: Stream, error: Exception) -> None:
    status, kind = status_of(error)
    if status == 500:
        log.error("request failed while its answer was sent", exc_info=error, extra={"path": request.path})
    if stream.on_error is None:
        _cut(request)
        return
    try:
        await response.write(stream.on_error(kind, str(error) or type(error).__name__))
        await response.write_eof()
    except ConnectionError:
        _cut(request)


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()
