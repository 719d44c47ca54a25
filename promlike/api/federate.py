"""`/federate`: the newest sample of each matching series in the text format, for another Prometheus to scrape."""

import asyncio

import numpy as np
from aiohttp import hdrs, web

from promlike.api.context import Api
from promlike.api.envelope import send
from promlike.api.federate_text import Escaping, federate_text
from promlike.api.params import read_params
from promlike.errors import BadRequest, StorageUnavailable
from promlike.model.blocks import Float64, Int64, StepGrid, is_stale
from promlike.model.clock import wall_clock_ms
from promlike.model.frame import LabelFrame
from promlike.model.labels import METRIC_NAME, Labels
from promlike.promql.series_selector import series_selector
from promlike.storage.store import Selection, SelectRequest


async def federate(api: Api, request: web.Request) -> web.Response:
    """Series that ended, or have no name, are left out; `{}` selects nothing. As in Prometheus, all samples are untyped."""
    params = await read_params(request)
    if params.problem:
        raise BadRequest(f"error parsing form values: {params.problem}")
    matcher_sets = [series_selector(text) for text in params.all("match[]")]
    now_ms = wall_clock_ms()
    start_ms = now_ms - api.query_options.lookback_ms
    grid = StepGrid(start_ms=now_ms, step_ms=1, count=1)
    requests = [
        SelectRequest(matchers=matchers, start_ms=start_ms, end_ms=now_ms, instants=grid, at_once=True)
        for matchers in matcher_sets
        if matchers
    ]
    escaping = _escaping(request)
    body = b""
    if requests:
        selection = await api.storage.select(requests, max_samples=api.query_options.max_samples)
        if selection.warnings:
            raise StorageUnavailable(selection.warnings[0])  # the format cannot say that something is missing
        body = await asyncio.to_thread(_text, selection, api.server.external_labels, escaping)
    return await send(request, 200, [body], content_type=escaping.content_type)


def _text(selection: Selection, external: Labels, escaping: Escaping) -> bytes:
    return federate_text(*newest(selection), external, escaping)


def newest(selection: Selection) -> tuple[LabelFrame, Int64, Float64]:
    """Labels of S series, each once, that have a name and whose newest sample is no stale marker; its time int64[S] and value float64[S].

    Ordered by name.
    """
    labels = LabelFrame.concat([block.labels for block in selection.blocks])
    samples = [block.samples.whole() for block in selection.blocks]
    ts_ms = np.concatenate([block.ts_ms[block.offsets[1:] - 1] for block in samples])
    values = np.concatenate([block.values[block.offsets[1:] - 1] for block in samples])
    _, rows = labels.groups()
    rows = rows[~is_stale(values[rows]) & (labels.column(METRIC_NAME)[rows] != 0)]
    names = np.array(selection.symbols.texts(labels.column(METRIC_NAME)[rows]), np.str_)
    rows = rows[np.argsort(names, kind="stable")]
    return labels.take(rows), ts_ms[rows], values[rows]


def _escaping(request: web.Request) -> Escaping:
    """What the client that scrapes makes of names outside the old alphabet, by the text format it likes best."""
    best, weight = Escaping.UNDERSCORES, 0.0
    for entry in ",".join(request.headers.getall(hdrs.ACCEPT, [])).split(","):
        kind, *options = (part.strip() for part in entry.split(";"))
        given = dict(option.split("=", 1) for option in options if "=" in option)
        try:
            q = float(given.get("q", "1"))
        except ValueError:
            continue
        if kind == "text/plain" and q > weight:
            allows = given.get("version") == "1.0.0" and given.get("escaping") == "allow-utf-8"
            best, weight = Escaping.ALLOW_UTF8 if allows else Escaping.UNDERSCORES, q
    return best
