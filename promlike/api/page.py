"""`/`: a small status page, until there is more to see."""

from html import escape

from aiohttp import web

from promlike import __version__
from promlike.api.context import Api

LINKS = ("metrics", "api/v1/targets", "api/v1/status/runtimeinfo", "api/v1/status/tsdb", "api/v1/status/config", "api/v1/status/flags")


async def page(api: Api, request: web.Request) -> web.Response:
    """Links are relative, so that they work behind any prefix."""
    links = "".join(f'<li><a href="{link}">{link}</a></li>' for link in LINKS)
    title = escape(api.web.page_title)
    phase = api.server.phase.name.lower()
    return web.Response(
        text=f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<style>body{font:16px system-ui;margin:3em}</style>"
        f"<h1>{title}</h1><p>promlike {__version__} is {phase}. Point Grafana's Prometheus data source at this address.</p>"
        f"<ul>{links}</ul></html>",
        content_type="text/html",
    )
