"""`/api/v1/admin/…`: deleting, copying the store, and ending queries. Gated by --web.enable-admin-api."""

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import NOTHING, Answer, answer
from promlike.api.errors import AdminDisabled, parameter
from promlike.api.forced import with_forced
from promlike.api.params import MAX_TIME_MS, Params
from promlike.errors import BadRequest, NotFound
from promlike.promql.series_selector import series_selector


async def delete_series(api: Api, params: Params, request: web.Request) -> Answer:
    """As in Prometheus; with `dry_run=true` (ours) only the number of series that would lose samples is told."""
    _check_enabled(api)
    if params.problem:
        raise BadRequest(f"error parsing form values: {params.problem}")
    if not params.all("match[]"):
        raise BadRequest("no match[] parameter provided")
    start_ms, end_ms = params.time_ms("start"), params.time_ms("end")
    with parameter("match[]"):
        matcher_sets = [series_selector(text) for text in params.all("match[]")]
    matcher_sets = with_forced(params, matcher_sets)
    # The API's start is included, the storage's is not.
    times = {"start_ms": (-MAX_TIME_MS if start_ms is None else start_ms) - 1, "end_ms": MAX_TIME_MS if end_ms is None else end_ms}
    if params.boolean("dry_run"):
        return answer({"series": api.storage.count_deletable(matcher_sets, **times)})
    await api.storage.delete_series(matcher_sets, **times)
    return NOTHING


async def clean_tombstones(api: Api, params: Params, request: web.Request) -> Answer:
    """Answers when the store has carried out every deletion and given back the space."""
    _check_enabled(api)
    await api.storage.clean_tombstones()
    return NOTHING


async def snapshot(api: Api, params: Params, request: web.Request) -> Answer:
    """`skip_head`: without what the store does not have yet."""
    _check_enabled(api)
    return answer({"name": await api.storage.snapshot(with_head=not params.boolean("skip_head"))})


async def cancel_query(api: Api, params: Params, request: web.Request) -> Answer:
    """Ours: end a query by the `id` that `status/active_queries` shows; its client gets 503 canceled."""
    _check_enabled(api)
    number = params.count("id")
    if number is None:
        raise BadRequest("no id parameter provided")
    if not api.queries.end(number):
        raise NotFound(f"no query {number} waits or runs")
    return NOTHING


def _check_enabled(api: Api) -> None:
    if not api.web.enable_admin_api:
        raise AdminDisabled("admin APIs disabled")
