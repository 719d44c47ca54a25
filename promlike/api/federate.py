"""`/federate`: the newest sample of each matching series, in text or protobuf, for another Prometheus to scrape."""

import asyncio

import numpy as np
from aiohttp import web

from promlike.api.accept import Exposition, Format, negotiate
from promlike.api.context import Api
from promlike.api.envelope import send
from promlike.api.federate_protobuf import federate_protobuf
from promlike.api.federate_text import federate_text
from promlike.api.forced import with_forced
from promlike.api.params import read_params
from promlike.errors import BadRequest, StorageUnavailable
from promlike.model.blocks import Float64, Int64, StepGrid, is_stale
from promlike.model.clock import wall_clock_ms
from promlike.model.frame import LabelFrame
from promlike.model.labels import METRIC_NAME, Labels
from promlike.promql.series_selector import series_selector
from promlike.storage.access import Selection, SelectRequest

FORMATS = (Format.TEXT, Format.PROTOBUF)
"""As in Prometheus: of samples without types, OpenMetrics would tell nothing more."""


async def federate(api: Api, request: web.Request) -> web.Response:
    """Series that ended, or have no name, are left out; `{}` selects nothing. As in Prometheus, all samples are untyped."""
    params = await read_params(request)
    if params.problem:
        raise BadRequest(f"error parsing form values: {params.problem}")
    matcher_sets = [series_selector(text) for text in params.all("match[]")]
    wanted = [matchers for matchers in matcher_sets if matchers]
    now_ms = wall_clock_ms()
    start_ms = now_ms - api.query_options.lookback_ms
    grid = StepGrid(start_ms=now_ms, step_ms=1, count=1)
    requests = [
        SelectRequest(matchers=matchers, start_ms=start_ms, end_ms=now_ms, instants=grid, at_once=True)
        for matchers in (with_forced(params, wanted) if wanted else [])
    ]
    exposition = negotiate(request, FORMATS)
    body = b""
    if requests:
        selection = await api.storage.select(requests, max_samples=api.query_options.max_samples)
        if selection.warnings:
            raise StorageUnavailable(selection.warnings[0])  # the format cannot say that something is missing
        body = await asyncio.to_thread(_body, selection, api.server.external_labels, exposition)
    return await send(request, 200, [body], content_type=exposition.content_type)


def _body(selection: Selection, external: Labels, exposition: Exposition) -> bytes:
    write = federate_protobuf if exposition.format is Format.PROTOBUF else federate_text
    return write(*newest(selection), external, exposition.escaping)


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
