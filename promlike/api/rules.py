"""`/api/v1/rules`, `alerts`, `alertmanagers`: no rules are evaluated yet, so all three are empty, in Prometheus's shapes."""

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, answer
from promlike.api.params import Params


async def rules(api: Api, params: Params, request: web.Request) -> Answer:
    return answer({"groups": []})


async def alerts(api: Api, params: Params, request: web.Request) -> Answer:
    return answer({"alerts": []})


async def alertmanagers(api: Api, params: Params, request: web.Request) -> Answer:
    return answer({"activeAlertmanagers": [], "droppedAlertmanagers": []})
