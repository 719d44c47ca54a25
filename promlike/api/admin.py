"""`/api/v1/admin/tsdb/…`: gated by --web.enable-admin-api."""

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer
from promlike.api.errors import AdminDisabled
from promlike.api.params import Params
from promlike.errors import QueryError


async def admin(api: Api, params: Params, request: web.Request) -> Answer:
    """Every administrative call: none of them is there yet."""
    if not api.web.enable_admin_api:
        raise AdminDisabled("admin APIs disabled")
    raise QueryError(f"{request.match_info['action']} is not available in this version of promlike")
