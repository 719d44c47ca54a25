"""`/api/v1/notifications`: what an administrator should know about this server now; `/notifications/live` tells of changes as they come."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import asdict

from aiohttp import hdrs, web

from promlike.api.context import Api
from promlike.api.envelope import Answer, Stream, answer
from promlike.api.json_text import to_json
from promlike.api.notices import Notices
from promlike.api.params import Params

KEEPALIVE_SECONDS = 15.0
"""How often a line is sent that means nothing, so that a client that went away is noticed."""


async def notifications(api: Api, params: Params, request: web.Request) -> Answer:
    return answer([asdict(notice) for notice in api.server.notices.active()])


async def notifications_live(api: Api, params: Params, request: web.Request) -> Stream | web.Response:
    """Server-sent events, one notification each, those that are active first; 204 when too many listen already."""
    notices = api.server.notices
    if notices.listeners >= api.web.max_notifications_subscribers:
        return web.Response(status=204)
    return Stream(content_type="text/event-stream", parts=_events(notices), more_headers={hdrs.CACHE_CONTROL: "no-cache"})


async def _events(notices: Notices) -> AsyncGenerator[bytes, None]:
    with notices.listening() as queue:
        yield b": notifications\n\n"  # lets the client see at once that it is connected
        while True:
            try:
                async with asyncio.timeout(KEEPALIVE_SECONDS):
                    notice = await queue.get()
            except TimeoutError:
                yield b":\n\n"
                continue
            if notice is None:
                return
            yield b"data: " + to_json(asdict(notice)) + b"\n\n"
