"""`/api/v1/rules`, `alerts`, `alertmanagers`: no rules are evaluated yet, so all three are empty, in Prometheus's shapes."""

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, answer
from promlike.api.errors import InvalidParameter
from promlike.api.params import Params
from promlike.errors import BadRequest
from promlike.model.labels import quote
from promlike.promql.series_selector import series_selector


async def rules(api: Api, params: Params, request: web.Request) -> Answer:
    """Every parameter is read and checked. Grafana sends names of files, groups and rules with and without brackets."""
    kind = params.text("type").lower()
    if kind not in ("", "alert", "record"):
        raise InvalidParameter("type", f"not supported value {quote(kind)}")
    for text in params.all("match[]"):
        series_selector(text)
    params.all("rule_name[]", "rule_name", "rule_group[]", "rule_group", "file[]", "file")
    exclude_alerts = params.text("exclude_alerts").lower()
    if exclude_alerts not in ("", "1", "t", "true", "0", "f", "false"):
        reason = f"error converting exclude_alerts: strconv.ParseBool: parsing {quote(exclude_alerts)}: invalid syntax"
        raise InvalidParameter("exclude_alerts", reason)
    _check_page(params)
    return answer({"groups": []})


def _check_page(params: Params) -> None:
    """There is no page behind the first: a token of one is from before the rules changed."""
    token = params.text("group_next_token")
    if not params.text("group_limit"):
        if token:
            raise InvalidParameter("group_limit", "group_limit needs to be present in order to paginate over the groups")
        return
    try:
        limit = params.count("group_limit") or 0
    except BadRequest as error:
        raise InvalidParameter("group_limit", f"group_limit needs to be a valid number: {error.__cause__}") from error
    if limit <= 0:
        raise InvalidParameter("group_limit", "group_limit needs to be greater than 0")
    if token:
        raise InvalidParameter("group_next_token", f"invalid group_next_token {quote(token)}. were rule groups changed?")


async def alerts(api: Api, params: Params, request: web.Request) -> Answer:
    return answer({"alerts": []})


async def alertmanagers(api: Api, params: Params, request: web.Request) -> Answer:
    return answer({"activeAlertmanagers": [], "droppedAlertmanagers": []})
