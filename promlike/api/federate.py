"""`/federate`: not there yet, and said so, because an empty answer would look like a server without series."""

from aiohttp import web

from promlike.api.context import Api
from promlike.errors import NotFound


async def federate(api: Api, request: web.Request) -> web.Response:
    raise NotFound("federation is not available in this version of promlike")
