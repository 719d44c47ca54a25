"""`/api/v1/status/active_queries` and `/api/v1/status/top_queries`, in VictoriaMetrics's words."""

from collections.abc import Callable, Sequence

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, answer
from promlike.api.params import Params
from promlike.api.running import RunningQuery
from promlike.api.top_queries import MOST_QUERIES, TopQuery
from promlike.errors import BadRequest

TOP = 20
LIFETIME_MS = 600_000


async def active_queries(api: Api, params: Params, request: web.Request) -> Answer:
    """The queries that wait or run now, the longest first."""
    return answer([_active(query) for query in api.queries.all()])


def _active(query: RunningQuery) -> dict[str, object]:
    origin = query.origin
    return {
        "id": str(query.number),
        "query": query.text.encode("utf-8", "replace").decode(),
        "start": query.start_ms,
        "end": query.end_ms,
        "step": query.step_ms,
        "duration": f"{query.seconds:.3f}s",
        "durationSeconds": round(query.seconds, 3),
        "memoryBytes": query.deadline.held_bytes,
        "remote_addr": origin.client_ip,
        "method": origin.method,
        "path": origin.path,
        "headers": dict(origin.headers),
    }


async def top_queries(api: Api, params: Params, request: web.Request) -> Answer:
    """`topN` of the queries that ended within `maxLifetime`."""
    asked = params.count("topN")
    top = TOP if asked is None else asked
    if top < 1:
        raise BadRequest("topN must be at least 1")
    lifetime = params.duration_ms("maxLifetime")
    lifetime_ms = LIFETIME_MS if lifetime is None else lifetime
    found = api.top_queries.of_last(lifetime_ms / 1000)

    def best(key: Callable[[TopQuery], float], name: str) -> Sequence[dict[str, object]]:
        chosen = sorted(found, key=key, reverse=True)[:top]
        return [
            {"query": query.text.encode("utf-8", "replace").decode(), "timeRangeSeconds": query.range_seconds, "count": query.count}
            | ({name: round(key(query), 6)} if name != "count" else {})
            for query in chosen
        ]

    return answer(
        {
            "topN": str(top),
            "maxLifetime": f"{lifetime_ms / 1000:g}s",
            "search.queryStats.lastQueriesCount": MOST_QUERIES,
            "topByCount": best(lambda query: query.count, "count"),
            "topByAvgDuration": best(lambda query: query.mean_seconds, "avgDurationSeconds"),
            "topBySumDuration": best(lambda query: query.seconds, "sumDurationSeconds"),
        }
    )
