"""`/api/v1/series`: the label sets of matching series."""

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, answer, truncated
from promlike.api.params import Params
from promlike.api.selection import read_selection
from promlike.errors import BadRequest


async def series(api: Api, params: Params, request: web.Request) -> Answer:
    selection = read_selection(params)
    if not selection.matcher_sets:
        raise BadRequest("no match[] parameter provided")
    found, is_cut = await api.storage.series(
        selection.matcher_sets, start_ms=selection.start_ms, end_ms=selection.end_ms, limit=selection.limit
    )
    return answer([dict(labels) for labels in found], warnings=truncated(is_cut))
