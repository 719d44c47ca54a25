"""`/api/v1/query_exemplars`: exemplars of all series that any selector of an expression selects."""

import asyncio

import orjson
from aiohttp import web

from promlike.api.context import Api
from promlike.api.encode import encode_samples
from promlike.api.envelope import NOTHING, Answer, truncated
from promlike.api.forced import forced_query
from promlike.api.json_text import to_json
from promlike.api.params import MAX_TIME_MS, Params
from promlike.errors import BadRequest
from promlike.promql.extract import selectors_of
from promlike.promql.parser import parse
from promlike.storage.exemplar_querier import SeriesExemplars

OFF_LOOP_FROM = 500
"""More exemplars than this are encoded in a worker thread."""


async def query_exemplars(api: Api, params: Params, request: web.Request) -> Answer:
    """Times may be far away: Grafana probes with milliseconds, and takes an error for "exemplars are not supported".

    As in Prometheus, an expression without a selector is answered with 204.
    """
    start_ms, end_ms = params.bound_ms("start"), params.bound_ms("end")
    if start_ms is not None and end_ms is not None and end_ms < start_ms:
        raise BadRequest("end timestamp must not be before start timestamp")
    matcher_sets = selectors_of(parse(forced_query(params, api.query_options.features), api.query_options.features))
    if not matcher_sets:
        return NOTHING
    first_ms = -MAX_TIME_MS if start_ms is None else start_ms
    found = await api.storage.exemplars(matcher_sets, start_ms=first_ms - 1, end_ms=MAX_TIME_MS if end_ms is None else end_ms)
    many = sum(len(series.exemplars) for series in found.series) > OFF_LOOP_FROM
    data = await asyncio.to_thread(_encode, found.series) if many else _encode(found.series)
    return Answer(data=[data], warnings=found.warnings + truncated(found.is_cut))


def _encode(found: list[SeriesExemplars]) -> bytes:
    return to_json([{"seriesLabels": dict(series.labels), "exemplars": _exemplars(series)} for series in found])


def _exemplars(series: SeriesExemplars) -> list[dict[str, orjson.Fragment]]:
    exemplars = series.exemplars
    samples = encode_samples(exemplars.ts_ms, exemplars.values)
    return [
        {"labels": orjson.Fragment(text), "value": orjson.Fragment(value), "timestamp": orjson.Fragment(time)}
        for text, (time, value) in zip(exemplars.labels, samples, strict=True)
    ]
