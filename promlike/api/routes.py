"""The web application: every route, and the wrapper that turns answers and errors into responses.

Endpoints return data or raise; only here is an error caught, logged when it is ours to blame, and turned into Prometheus's envelope.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from logging import getLogger
from posixpath import normpath
from time import perf_counter
from typing import Any
from urllib.parse import quote, unquote

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from promlike.api import admin, body, lifecycle, status
from promlike.api.connections import whole_within
from promlike.api.context import Api
from promlike.api.envelope import Answer, Stream, respond, respond_error
from promlike.api.errors import status_of
from promlike.api.features import features
from promlike.api.federate import federate
from promlike.api.format_query import format_query
from promlike.api.label_values import label_values
from promlike.api.labels import labels
from promlike.api.metadata import metadata
from promlike.api.notifications import notifications, notifications_live
from promlike.api.openapi import openapi
from promlike.api.own_metrics import OwnMetrics
from promlike.api.page import page
from promlike.api.params import Params, read_params
from promlike.api.parse_query import parse_query
from promlike.api.query import query
from promlike.api.query_exemplars import query_exemplars
from promlike.api.query_range import query_range
from promlike.api.query_status import active_queries, top_queries
from promlike.api.read import read
from promlike.api.rules import alertmanagers, alerts, rules
from promlike.api.search import search_label_names, search_label_values, search_metric_names
from promlike.api.self_metrics import self_metrics
from promlike.api.series import series
from promlike.api.server_metrics import server_metrics
from promlike.api.sql import sql
from promlike.api.streaming import respond_stream
from promlike.api.targets import relabel_steps, scrape_pool_config, scrape_pools, targets, targets_metadata
from promlike.api.tsdb_status import tsdb

log = getLogger(__name__)

Endpoint = Callable[[Api, Params, web.Request], Awaitable[Answer | Stream | web.Response]]
PlainEndpoint = Callable[[Api, web.Request], Awaitable[web.Response | Stream]]


MAX_HEADER_BYTES = 1 << 20
"""Of the line with the URL, and of each header, as in Go: selectors of dashboards stand in URLs."""

RUNNER_OPTIONS: Mapping[str, Any] = {"auto_decompress": False, "max_line_size": MAX_HEADER_BYTES, "max_field_size": MAX_HEADER_BYTES}
"""How aiohttp is to read requests for the application."""

_VARIABLE = re.compile(r"\{(\w+)\}")
_NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}

ENDPOINTS: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET POST", "query", query),
    ("GET POST", "query_range", query_range),
    ("GET POST", "query_exemplars", query_exemplars),
    ("GET POST", "format_query", format_query),
    ("GET POST", "parse_query", parse_query),
    ("GET POST", "sql", sql),
    ("GET POST", "series", series),
    ("GET POST", "labels", labels),
    ("GET POST", "label/{name}/values", label_values),
    ("GET POST", "search/metric_names", search_metric_names),
    ("GET POST", "search/label_names", search_label_names),
    ("GET POST", "search/label_values", search_label_values),
    ("GET", "metadata", metadata),
    ("GET", "targets", targets),
    ("GET", "targets/metadata", targets_metadata),
    ("GET", "targets/relabel_steps", relabel_steps),
    ("GET", "scrape_pools", scrape_pools),
    ("GET", "scrape_pools/config", scrape_pool_config),
    ("GET", "rules", rules),
    ("GET", "alerts", alerts),
    ("GET", "alertmanagers", alertmanagers),
    ("GET", "features", features),
    ("GET", "status/buildinfo", status.buildinfo),
    ("GET", "status/config", status.config),
    ("GET", "status/flags", status.flags),
    ("GET", "status/runtimeinfo", status.runtimeinfo),
    ("GET", "status/self_metrics", self_metrics),
    ("GET", "status/tsdb", tsdb),
    ("GET", "status/active_queries", active_queries),
    ("GET", "status/top_queries", top_queries),
    ("GET", "status/tsdb/blocks", status.blocks),
    ("POST PUT", "admin/tsdb/delete_series", admin.delete_series),
    ("POST PUT", "admin/tsdb/clean_tombstones", admin.clean_tombstones),
    ("POST PUT", "admin/tsdb/snapshot", admin.snapshot),
    ("POST PUT", "admin/cancel_query", admin.cancel_query),
)
"""Under /api/v1, served once the server is ready."""

EARLY_ENDPOINTS: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", "status/walreplay", status.walreplay),
    ("GET", "openapi.yaml", openapi),
    ("GET", "notifications", notifications),
    ("GET", "notifications/live", notifications_live),
)
"""Under /api/v1, served while the server starts and stops, too."""

PLAIN: tuple[tuple[str, str, PlainEndpoint], ...] = (
    ("GET HEAD", "/-/healthy", lifecycle.healthy),
    ("GET HEAD", "/-/ready", lifecycle.ready),
    ("POST PUT", "/-/reload", lifecycle.reload),
    ("POST PUT", "/-/quit", lifecycle.quit_),
    ("GET", "/-/reload", lifecycle.wrong_method),
    ("GET", "/-/quit", lifecycle.wrong_method),
    ("GET", "/version", status.version),
    ("GET", "/", page),
)


PLAIN_WHEN_READY: tuple[tuple[str, str, PlainEndpoint], ...] = (
    ("POST", "/api/v1/read", read),
    ("GET", "/federate", federate),
)


def build_application(api: Api, *, remote_write: Handler | None) -> web.Application:
    """The application under its route prefix. `remote_write` takes /api/v1/write, or nothing does."""
    prefix = api.web.route_prefix
    api.metrics.add(lambda: server_metrics(api))
    api_path = f"{prefix}/api/v1/"
    middlewares = [_observed(api.metrics, prefix), whole_within(api.web.read_timeout_seconds), _preflight(api_path)]
    application = web.Application(client_max_size=body.MAX_BYTES, middlewares=middlewares)
    application.on_response_prepare.append(_without_server)
    application.on_response_prepare.append(_cors(api.web.cors_origin, api_path))
    for methods, path, endpoint in ENDPOINTS:
        _add(application, methods, f"{prefix}/api/v1/{path}", _answering(api, endpoint))
    for methods, path, endpoint in EARLY_ENDPOINTS:
        _add(application, methods, f"{prefix}/api/v1/{path}", _answering(api, endpoint, when_ready=False))
    for methods, path, plain in PLAIN:
        _add(application, methods, f"{prefix}{path}", _plain(api, plain))
    for methods, path, plain in PLAIN_WHEN_READY:
        _add(application, methods, f"{prefix}{path}", _when_ready(api, _plain(api, plain)))
    _add(application, "GET", f"{prefix}/metrics", api.metrics.serve)
    if remote_write is not None:
        _add(application, "POST", f"{prefix}/api/v1/write", _when_ready(api, remote_write))
    if prefix:
        _add(application, "GET", prefix, _redirect(f"{quote(prefix)}/"))
        _add(application, "GET", "/", _redirect(f"{quote(prefix)}/"))
    return application


def _add(application: web.Application, methods: str, path: str, handler: Handler) -> None:
    for method in methods.split():
        application.router.add_route(method, path, handler)


def _answering(api: Api, endpoint: Endpoint, *, when_ready: bool = True) -> Handler:
    """The handler of an API endpoint."""

    async def handle(request: web.Request) -> web.StreamResponse:
        waiting = lifecycle.not_ready(api) if when_ready else None
        if waiting is not None:
            return waiting
        try:
            return await _respond(request, await endpoint(api, await read_params(request), request))
        except web.HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - the one place where errors become responses
            return await _failed(request, error)

    return handle


async def _respond(request: web.Request, found: Answer | Stream | web.Response) -> web.StreamResponse:
    match found:
        case Answer():
            return await respond(request, found)
        case Stream():
            return await respond_stream(request, found)
        case _:
            return found


async def _failed(request: web.Request, error: Exception) -> web.StreamResponse:
    code, error_type = status_of(error)
    if code == 500:
        log.error("request failed", exc_info=error, extra={"path": request.path})
    return await respond_error(request, code, error_type, str(error) or type(error).__name__)


def _plain(api: Api, endpoint: PlainEndpoint) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await _respond(request, await endpoint(api, request))
        except web.HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - as above, in plain text
            return web.Response(status=status_of(error)[0], text=f"{error}\n")

    return handle


def _when_ready(api: Api, handler: Handler) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return lifecycle.not_ready(api) or await handler(request)

    return handle


def _redirect(location: str) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={hdrs.LOCATION: location})

    return handle


async def _without_server(request: web.Request, response: web.StreamResponse) -> None:
    """As Prometheus, tell nobody which versions of what serve this."""
    response.headers.popall(hdrs.SERVER, None)


def _preflight(api_path: str) -> Middleware:
    """Answer the OPTIONS that browsers send before a call."""

    @web.middleware
    async def preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
        asking = request.method == hdrs.METH_OPTIONS and request.path.startswith(api_path)
        return web.Response(status=204) if asking else await handler(request)

    return preflight


def _cors(origin_pattern: str, api_path: str) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Say in headers which origins may call from a browser. Answers to others vary by Origin, too, so that no cache mixes them up."""
    allowed = re.compile(f"(?:{origin_pattern})")
    any_origin = origin_pattern == ".*"

    async def cors(request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get(hdrs.ORIGIN)
        known = request.match_info.route.resource is not None or request.method == hdrs.METH_OPTIONS
        if known and request.path.startswith(api_path) and origin:
            if allowed.fullmatch(origin):
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*" if any_origin else origin
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = "Accept, Authorization, Content-Type, Origin"
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = "GET, POST, OPTIONS"
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = "Date"
            response.headers.add(hdrs.VARY, hdrs.ORIGIN)

    return cors


def _observed(metrics: OwnMetrics, prefix: str) -> Middleware:
    """Count and time every request by route; unknown paths and methods answer as Prometheus's router does."""

    @web.middleware
    async def observed(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = perf_counter()
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = _routing_answer(request, error)
        resource = request.match_info.route.resource
        handler_name = _VARIABLE.sub(r":\1", unquote(resource.canonical).removeprefix(prefix)) if resource else "/*"
        metrics.request(handler_name or "/", response.status, perf_counter() - started)
        return response

    return observed


def _routing_answer(request: web.Request, error: web.HTTPException) -> web.Response:
    """What a request gets that no endpoint took."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = {hdrs.ALLOW: ", ".join(sorted({*error.allowed_methods, hdrs.METH_OPTIONS}))}
        if request.method == hdrs.METH_OPTIONS:
            return web.Response(headers=allowed)
        return web.Response(status=405, text="Method Not Allowed\n", headers=allowed | _NO_SNIFFING)
    clean = normpath(f"/{request.rel_url.raw_path.lstrip('/')}")
    if error.status == 404 and request.rel_url.raw_path.startswith("/") and clean != request.rel_url.raw_path.rstrip("/"):
        query = request.rel_url.raw_query_string
        return web.Response(status=301, headers={hdrs.LOCATION: f"{clean}?{query}" if query else clean})
    text = "404 page not found" if error.status == 404 else error.reason
    return web.Response(status=error.status, text=f"{text}\n", headers=_NO_SNIFFING)
