"""`/api/v1/format_query`: a query in canonical form."""

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, answer
from promlike.api.errors import parameter
from promlike.api.params import Params
from promlike.promql.parser import parse
from promlike.promql.printer import pretty


async def format_query(api: Api, params: Params, request: web.Request) -> Answer:
    with parameter("query"):
        return answer(pretty(parse(params.text("query"), api.query_options.features)))
