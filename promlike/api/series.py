"""`/api/v1/series`: the label sets of matching series."""

import asyncio

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, truncated
from promlike.api.errors import parameter
from promlike.api.json_text import to_json
from promlike.api.params import Params
from promlike.api.selection import read_selection
from promlike.errors import BadRequest
from promlike.model.labels import Labels

OFF_LOOP_FROM = 2000
"""More series than this are encoded in a worker thread: a few milliseconds of work."""


async def series(api: Api, params: Params, request: web.Request) -> Answer:
    if params.problem:
        raise BadRequest(f"error parsing form values: {params.problem}")
    if not params.all("match[]"):
        raise BadRequest("no match[] parameter provided")
    with parameter("match[]"):
        selection = read_selection(params)
    found, is_cut = await api.storage.series(
        selection.matcher_sets, start_ms=selection.start_ms, end_ms=selection.end_ms, limit=selection.limit
    )
    data = await asyncio.to_thread(_encode, found) if len(found) > OFF_LOOP_FROM else _encode(found)
    return Answer(data=[data], warnings=truncated(is_cut))


def _encode(found: list[Labels]) -> bytes:
    return to_json([dict(labels) for labels in found])
