"""`/api/v1/status/tsdb`: how many series there are, and which names and labels have most of them."""

import asyncio

import numpy as np
from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, answer
from promlike.api.params import Params, parse_integer
from promlike.api.selection import read_selection
from promlike.errors import BadRequest
from promlike.model.blocks import Int64
from promlike.model.labels import METRIC_NAME
from promlike.storage.series_view import PairCounts

MAX_LIMIT = 10_000
DEFAULT_LIMIT = 10


def parse_limit(text: str) -> int:
    """How long the lists may be. Raise BadRequest otherwise."""
    if not text:
        return DEFAULT_LIMIT
    try:
        limit = parse_integer(text)
    except BadRequest:
        limit = 0
    if limit < 1:
        raise BadRequest("limit must be a positive number")
    if limit > MAX_LIMIT:
        raise BadRequest(f"limit must not exceed {MAX_LIMIT}")
    return limit


async def tsdb(api: Api, params: Params, request: web.Request) -> Answer:
    """Beyond Prometheus: `match[]` counts only some series, `focusLabel` adds how many have each value of one label."""
    limit = parse_limit(params.text("limit") or params.text("topN"))
    focus = params.text("focusLabel")
    selection = read_selection(params)
    pairs = await api.storage.label_pairs(selection.matcher_sets)
    tops = await asyncio.to_thread(top_lists, pairs, limit, focus)
    return answer({"headStats": _head(api, len(pairs.counts))} | tops)


def _head(api: Api, label_pairs: int) -> dict[str, int]:
    storage = api.storage
    return {
        "numSeries": storage.gauges.head_series,
        "numLabelPairs": label_pairs,
        "chunkCount": storage.gauges.head_blocks,
        "minTime": storage.gauges.min_time_ms or 0,
        "maxTime": storage.gauges.max_time_ms or 0,
    }


def top_lists(pairs: PairCounts, limit: int, focus: str = "") -> dict[str, list[dict[str, object]]]:
    """The lists of the largest, by their names in the answer."""
    names, rows, counts = pairs.names, pairs.rows, pairs.counts
    of_metric = np.flatnonzero(rows == names.index(METRIC_NAME)) if METRIC_NAME in names else rows[:0]
    lengths = _byte_lengths(pairs.scope.texts(pairs.symbols))
    values = np.bincount(rows, minlength=len(names))
    sizes = np.bincount(rows, weights=lengths * counts, minlength=len(names)).astype(np.int64)

    def value(row: int) -> str:
        return pairs.scope.text(int(pairs.symbols[row]))

    lists = {
        "seriesCountByMetricName": [_entry(value(row), counts[row]) for row in of_metric[_largest(counts[of_metric], limit)].tolist()],
        "labelValueCountByLabelName": [_entry(names[name], values[name]) for name in _largest(values, limit).tolist()],
        "memoryInBytesByLabelName": [_entry(names[name], sizes[name]) for name in _largest(sizes, limit).tolist()],
        "seriesCountByLabelValuePair": [
            _entry(f"{names[rows[row]]}={value(row)}", counts[row]) for row in _largest(counts, limit).tolist()
        ],
    }
    if focus:
        focused = np.flatnonzero(rows == names.index(focus)) if focus in names else rows[:0]
        lists["seriesCountByFocusLabelValue"] = [
            _entry(value(row), counts[row]) for row in focused[_largest(counts[focused], limit)].tolist()
        ]
    return lists


def _byte_lengths(texts: list[str]) -> Int64:
    """int64[K]"""
    if "".join(texts).isascii():
        return np.fromiter(map(len, texts), np.int64, len(texts))
    return np.fromiter((len(text.encode()) for text in texts), np.int64, len(texts))


def _largest(counts: Int64, limit: int) -> Int64:
    """Where the largest stand, the largest first and of equal ones the first: int64[K]."""
    if len(counts) > limit:
        least = np.partition(counts, len(counts) - limit)[len(counts) - limit]
        rows = np.flatnonzero(counts >= least)
    else:
        rows = np.arange(len(counts))
    return rows[np.argsort(-counts[rows], kind="stable")][:limit]


def _entry(name: str, count: np.int64) -> dict[str, object]:
    return {"name": name, "value": int(count)}
