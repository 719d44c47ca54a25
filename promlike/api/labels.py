"""`/api/v1/labels`: label names."""

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, answer, truncated
from promlike.api.params import Params
from promlike.api.selection import read_selection


async def labels(api: Api, params: Params, request: web.Request) -> Answer:
    selection = read_selection(params)
    names, is_cut = await api.storage.label_names(
        selection.matcher_sets, start_ms=selection.start_ms, end_ms=selection.end_ms, limit=selection.limit
    )
    return answer(names, warnings=truncated(is_cut))
