"""`/api/v1/label/<name>/values`: the values of one label. Names outside the old alphabet may come escaped as `U__…`."""

import asyncio
import re

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, truncated
from promlike.api.json_text import to_json
from promlike.api.params import Params
from promlike.api.selection import read_selection
from promlike.errors import BadRequest
from promlike.model.labels import quote

OFF_LOOP_FROM = 50_000
"""More values than this are encoded in a worker thread: a few milliseconds of work."""

_ESCAPED = re.compile(r"_([0-9a-fA-F]{1,6})_|__|[^_]", re.DOTALL)


async def label_values(api: Api, params: Params, request: web.Request) -> Answer:
    name = unescape_name(request.match_info["name"])
    if not name:
        raise BadRequest(f"invalid label name: {quote(name)}")
    selection = read_selection(params)
    values, is_cut = await api.storage.label_values(
        name, selection.matcher_sets, start_ms=selection.start_ms, end_ms=selection.end_ms, limit=selection.limit
    )
    data = await asyncio.to_thread(to_json, values) if len(values) > OFF_LOOP_FROM else to_json(values)
    return Answer(data=[data], warnings=truncated(is_cut))


def unescape_name(name: str) -> str:
    """`U__http_2e_status` is `http.status`: `_hex_` is a character, `__` an underscore. What is not well escaped stays as it is."""
    if not name.startswith("U__"):
        return name
    out = []
    at = len("U__")
    while at < len(name):
        match = _ESCAPED.match(name, at)
        code = int(match[1], 16) if match and match[1] else 0
        if match is None or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            return name
        out.append(chr(code) if match[1] else "_" if match[0] == "__" else match[0])
        at = match.end()
    return "".join(out)
