"""`/api/v1/metadata`: type, help and unit of metrics."""

from itertools import islice

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, answer
from promlike.api.params import Params


async def metadata(api: Api, params: Params, request: web.Request) -> Answer:
    limit = params.count("limit")
    per_metric = params.count("limit_per_metric") or 0
    metric = params.text("metric")
    known = api.storage.metadata()
    chosen = {metric: known[metric]} if metric in known else {} if metric else known
    few = islice(chosen.items(), None if limit is None or limit < 0 else limit)
    return answer(
        {
            name: [
                {"type": entry.type, "help": entry.help, "unit": entry.unit}
                for entry in (entries[:per_metric] if per_metric > 0 else entries)
            ]
            for name, entries in few
        }
    )
