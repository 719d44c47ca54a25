"""`/api/v1/parse_query`: the syntax tree of a query."""

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, answer
from promlike.api.errors import parameter
from promlike.api.params import Params
from promlike.promql.ast_json import to_json
from promlike.promql.parser import parse


async def parse_query(api: Api, params: Params, request: web.Request) -> Answer:
    with parameter("query"):
        return answer(to_json(parse(params.text("query"), api.query_options.features)))
