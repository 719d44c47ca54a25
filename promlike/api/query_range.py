"""`/api/v1/query_range`: a query evaluated at every step from start to end."""

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer
from promlike.api.errors import parameter
from promlike.api.forced import forced_query
from promlike.api.params import Params
from promlike.api.query_answer import query_answer
from promlike.api.traced import new_trace


async def query_range(api: Api, params: Params, request: web.Request) -> Answer:
    limit = params.limit()
    grid = params.grid()
    lookback_ms = params.duration_ms("lookback_delta")
    stats = params.text("stats")
    resolution_ms = params.resolution_ms()
    end_ms = params.required_time_ms("end")
    use_cache = not params.boolean("nocache")
    trace = new_trace(params, request)
    with (
        api.running(params, request, start_ms=grid.start_ms, end_ms=end_ms, step_ms=grid.step_ms) as running,
        parameter("query"),
    ):
        result = await api.ranges.range(
            api.storage,
            forced_query(params, api.query_options.features),
            grid,
            end_ms=end_ms,
            deadline=running.deadline,
            lookback_ms=lookback_ms,
            with_stats=bool(stats),
            resolution_ms=resolution_ms,
            use_cache=use_cache,
            trace=trace,
        )
        running.stats = result.stats
    return await query_answer(result, limit=limit, stats=stats, times_ms=grid.times_ms().tolist(), engine=api.engine, trace=trace)
