"""Remote write over aiohttp: `POST /api/v1/write`."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from promlike.remote_write.receiver import RemoteWriteReceiver, WriteOutcome

Handler = Callable[[web.Request], Awaitable[web.Response]]


def write_handler(receiver: RemoteWriteReceiver) -> Handler:
    """The handler of one receiver. It reads the body itself, so that the application's `client_max_size` does not matter."""

    async def handle(request: web.Request) -> web.Response:
        body = await _read_body(request, receiver.max_body_bytes)
        if body is None:
            return _respond(
                WriteOutcome(
                    status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text=f"the body has more than the {receiver.max_body_bytes} bytes allowed"
                )
            )
        headers = request.headers
        return _respond(
            await receiver.write(body, content_type=headers.get("Content-Type", ""), content_encoding=headers.get("Content-Encoding", ""))
        )

    return handle


async def _read_body(request: web.Request, limit: int) -> bytes | None:
    """The whole body, or None when it is over `limit`."""
    if (request.content_length or 0) > limit:
        return None
    content = request.content
    first = await content.readany()
    if content.at_eof():
        return first
    parts = [first]
    size = len(first)
    while chunk := await content.readany():
        size += len(chunk)
        if size > limit:
            return None
        parts.append(chunk)
    return b"".join(parts)


def _respond(outcome: WriteOutcome) -> web.Response:
    """The answer with what was written of each kind: version 2.0 demands it, also with errors; senders of version 1.0 do not mind."""
    written = {"Samples": outcome.samples, "Histograms": outcome.histograms, "Exemplars": outcome.exemplars}
    headers = {f"X-Prometheus-Remote-Write-{kind}-Written": str(count) for kind, count in written.items()}
    if outcome.status is HTTPStatus.NO_CONTENT:
        return web.Response(status=204, headers=headers)
    return web.Response(status=outcome.status, text=outcome.text + "\n", headers=headers)
