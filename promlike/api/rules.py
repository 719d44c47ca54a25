"""`/api/v1/rules`, `alerts`, `alertmanagers`: no rules are evaluated yet, so all three are empty, in Prometheus's shapes."""

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, answer
from promlike.api.errors import InvalidParameter
from promlike.api.params import Params
from promlike.model.labels import quote
from promlike.promql.series_selector import series_selector


async def rules(api: Api, params: Params, request: web.Request) -> Answer:
    kind = params.text("type").lower()
    if kind not in ("", "alert", "record"):
        raise InvalidParameter("type", f"not supported value {quote(kind)}")
    for text in params.all("match[]"):
        series_selector(text)
    return answer({"groups": []})


async def alerts(api: Api, params: Params, request: web.Request) -> Answer:
    return answer({"alerts": []})


async def alertmanagers(api: Api, params: Params, request: web.Request) -> Answer:
    return answer({"activeAlertmanagers": [], "droppedAlertmanagers": []})
