"""`/api/v1/features`: what this server can do, by area."""

from dataclasses import fields

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, answer
from promlike.api.params import Params


async def features(api: Api, params: Params, request: web.Request) -> Answer:
    promql = api.query_options.features
    return answer(
        {
            "api": {
                "admin": api.web.enable_admin_api,
                "exclude_alerts": False,
                "label_values_match": True,
                "lifecycle": api.web.enable_lifecycle,
                "query_stats": True,
                "remote_write_receiver": api.web.flags.get("web.enable-remote-write-receiver") != "false",
            },
            "promql": {field.name: getattr(promql, field.name) for field in fields(promql)},
        }
    )
