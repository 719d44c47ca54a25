"""`/api/v1/query`: an instant query."""

from time import time

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer
from promlike.api.errors import parameter
from promlike.api.forced import forced_query
from promlike.api.params import Params
from promlike.api.query_answer import query_answer
from promlike.api.traced import new_trace


async def query(api: Api, params: Params, request: web.Request) -> Answer:
    limit = params.limit()
    asked_ms = params.time_ms("time")
    time_ms = round(time() * 1000) if asked_ms is None else asked_ms
    lookback_ms = params.duration_ms("lookback_delta")
    stats = params.text("stats")
    resolution_ms = params.resolution_ms()
    trace = new_trace(params, request)
    with api.running(params, request, start_ms=time_ms, end_ms=time_ms, step_ms=0) as running, parameter("query"):
        result = await api.engine.instant(
            api.storage,
            forced_query(params, api.query_options.features),
            time_ms,
            deadline=running.deadline,
            lookback_ms=lookback_ms,
            with_stats=bool(stats),
            resolution_ms=resolution_ms,
            trace=trace,
        )
        running.stats = result.stats
    return await query_answer(result, limit=limit, stats=stats, times_ms=[time_ms], engine=api.engine, trace=trace)
