"""`/api/v1/status/tsdb`: how many series there are, and which names and labels have most of them."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, answer
from promlike.api.params import Params, parse_integer
from promlike.errors import BadRequest
from promlike.model.labels import METRIC_NAME, Labels

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
    limit = parse_limit(params.text("limit"))
    found, _ = await api.storage.series([], start_ms=None, end_ms=None)
    counts = await asyncio.to_thread(cardinality, found, limit)
    return answer({"headStats": _head(api, counts.label_pairs), **counts.tops})


def _head(api: Api, label_pairs: int) -> dict[str, int]:
    storage = api.storage
    return {
        "numSeries": storage.head_series,
        "numLabelPairs": label_pairs,
        "chunkCount": 0,
        "minTime": storage.min_time_ms or 0,
        "maxTime": storage.max_time_ms or 0,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Cardinality:
    """How many distinct label pairs there are, and the lists of the largest, by their names in the answer."""

    label_pairs: int
    tops: dict[str, list[dict[str, object]]]


def cardinality(series: Sequence[Labels], limit: int) -> Cardinality:
    """Walks every label of every series: an administrator's question, asked seldom, answered in a worker thread."""
    by_metric: Counter[str] = Counter()
    by_pair: Counter[tuple[str, str]] = Counter()
    for labels in series:
        by_pair.update(labels)
    values: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for (name, value), count in by_pair.items():
        values[name] += 1
        sizes[name] += len(value.encode()) * count
        if name == METRIC_NAME:
            by_metric[value] += count
    pairs = Counter({f"{name}={value}": count for (name, value), count in by_pair.items()})
    return Cardinality(
        label_pairs=len(by_pair),
        tops={
            "seriesCountByMetricName": _top(by_metric, limit),
            "labelValueCountByLabelName": _top(values, limit),
            "memoryInBytesByLabelName": _top(sizes, limit),
            "seriesCountByLabelValuePair": _top(pairs, limit),
        },
    )


def _top(counts: Counter[str], limit: int) -> list[dict[str, object]]:
    return [{"name": name, "value": count} for name, count in counts.most_common(limit)]
