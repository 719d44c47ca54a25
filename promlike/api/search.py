"""`/api/v1/search/metric_names`, `label_names`, `label_values`: names and values that fit search terms, as a stream of JSON lines."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

import numpy as np
from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Stream, error_json
from promlike.api.errors import InvalidParameter
from promlike.api.json_text import to_json
from promlike.api.label_values import unescape_name
from promlike.api.params import Params
from promlike.api.search_params import SearchRequest, SortBy, SortDir, read_search
from promlike.api.selection import read_selection
from promlike.model.labels import METRIC_NAME
from promlike.search.rank import score

CONTENT_TYPE = "application/x-ndjson"

Result = dict[str, object]
Found = tuple[list[tuple[str, float]], bool]
"""Texts with their scores, and whether there are more than the limit allows."""


async def search_metric_names(api: Api, params: Params, request: web.Request) -> Stream:
    search = read_search(params, api.web.search_max_limit)
    include_metadata = params.boolean("include_metadata")
    selection = read_selection(params)
    names, _ = await api.storage.label_values(METRIC_NAME, selection.matcher_sets, start_ms=selection.start_ms, end_ms=selection.end_ms)
    known = api.storage.metadata() if include_metadata else {}

    def describe(name: str) -> Result:
        entry = known.get(name)
        if entry is None:
            return {"name": name}
        result: Result = {"name": name, "type": entry.type, "help": entry.help}
        return result | {"unit": entry.unit} if entry.unit else result

    return await _answer(names, search, describe)


async def search_label_names(api: Api, params: Params, request: web.Request) -> Stream:
    search = read_search(params, api.web.search_max_limit)
    selection = read_selection(params)
    names, _ = await api.storage.label_names(selection.matcher_sets, start_ms=selection.start_ms, end_ms=selection.end_ms)
    return await _answer(names, search, lambda name: {"name": name})


async def search_label_values(api: Api, params: Params, request: web.Request) -> Stream:
    search = read_search(params, api.web.search_max_limit)
    label = unescape_name(params.text("label"))
    if not label:
        raise InvalidParameter("label", "the name of a label is needed")
    selection = read_selection(params)
    values, _ = await api.storage.label_values(label, selection.matcher_sets, start_ms=selection.start_ms, end_ms=selection.end_ms)
    return await _answer(values, search, lambda value: {"value": value})


async def _answer(texts: Sequence[str], search: SearchRequest, describe: Callable[[str], Result]) -> Stream:
    found = await asyncio.to_thread(find, texts, search)
    return Stream(content_type=CONTENT_TYPE, parts=_lines(found, search, describe), on_error=_last_line)


def _last_line(error_type: str, text: str) -> bytes:
    """In place of the one that says that all went well."""
    return error_json(error_type, text) + b"\n"


def find(texts: Sequence[str], search: SearchRequest) -> Found:
    """Those of the texts, which are sorted, that fit, in the order asked for."""
    scores = score(texts, search.terms)
    rows = np.flatnonzero(scores)
    if search.sort_by is SortBy.SCORE:
        rows = rows[np.argsort(-scores[rows], kind="stable")]
    elif search.sort_dir is SortDir.DESCENDING:
        rows = rows[::-1]
    chosen = rows[: search.limit or None].tolist()
    return [(texts[row], float(scores[row])) for row in chosen], len(chosen) < len(rows)


async def _lines(found: Found, search: SearchRequest, describe: Callable[[str], Result]) -> AsyncGenerator[bytes, None]:
    """Batches of results, then how it ended."""
    results, has_more = found
    for start in range(0, len(results), search.batch_size):
        batch = [
            describe(text) | ({"score": round(points, 6)} if search.include_score else {})
            for text, points in results[start : start + search.batch_size]
        ]
        yield to_json({"results": batch}) + b"\n"
    yield to_json({"status": "success", "has_more": has_more}) + b"\n"
