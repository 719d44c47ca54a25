"""`/api/v1/query_exemplars`: exemplars are counted when they arrive but not kept, so the answer is empty."""

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, answer
from promlike.api.params import Params
from promlike.errors import BadRequest
from promlike.promql.parser import parse


async def query_exemplars(api: Api, params: Params, request: web.Request) -> Answer:
    """Times may be far away: Grafana probes with milliseconds, and takes an error for "exemplars are not supported"."""
    start_ms, end_ms = params.bound_ms("start"), params.bound_ms("end")
    if start_ms is not None and end_ms is not None and end_ms < start_ms:
        raise BadRequest("end timestamp must not be before start timestamp")
    parse(params.text("query"), api.query_options.features)
    return answer([])
