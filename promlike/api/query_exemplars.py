"""`/api/v1/query_exemplars`: exemplars are counted when they arrive but not kept, so the answer is empty."""

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, answer
from promlike.api.params import Params


async def query_exemplars(api: Api, params: Params, request: web.Request) -> Answer:
    """Nothing is checked: Grafana probes with times in milliseconds and takes an error for "exemplars are not supported"."""
    return answer([])
