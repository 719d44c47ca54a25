"""`/api/v1/read`: raw samples for another Prometheus. Errors are plain text, as Prometheus answers them."""

from aiohttp import web

from promlike.api.body import read_body
from promlike.api.context import Api
from promlike.api.envelope import Stream


async def read(api: Api, request: web.Request) -> Stream:
    found = api.remote_read.answer(await read_body(request))
    return Stream(content_type=found.content_type, content_encoding=found.content_encoding, parts=found.parts)
