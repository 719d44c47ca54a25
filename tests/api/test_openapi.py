"""The OpenAPI document against what is served: routes, methods, parameters, and real answers."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
import yaml
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, OpenAPIV32SpecValidator

from promlike.api import context, openapi_table, params, routes
from promlike.api.openapi import document
from promlike.api.openapi_parts import JSON, Operation
from promlike.api.openapi_table import OPERATIONS
from tests.api.conftest import NOW_MS, Client

TOLD = "describe it in promlike/api/openapi_table.py"
UNDESCRIBED = {("GET", "/-/reload"), ("GET", "/-/quit")}
"""Answered with what is wrong about asking so."""


def served() -> set[tuple[str, str]]:
    """Methods and paths of all routes, with the receiver of remote write switched on."""
    under = [("/api/v1/", table) for table in (routes.ENDPOINTS, routes.EARLY_ENDPOINTS)]
    tables = [*under, ("", routes.PLAIN), ("", routes.PLAIN_WHEN_READY)]
    found = {(method, start + path) for start, table in tables for methods, path, _ in table for method in methods.split()}
    return found | {("GET", "/metrics"), ("POST", "/api/v1/write")}


async def test_the_tables_of_routes_are_all_that_the_application_has(open_client: Client) -> None:
    """A route added elsewhere would not be compared."""
    router = open_client.application.router
    found = {(route.method, route.resource.canonical) for route in router.routes() if route.resource is not None}
    assert found - {("GET", "/prom"), ("GET", "/")} == {(method, f"/prom{path}") for method, path in served()}, TOLD


@pytest.mark.parametrize("path", sorted({path for _, path in served()}))
def test_every_route_is_described(path: str) -> None:
    methods = {method for method, other in served() - UNDESCRIBED if other == path}
    described = {method for one in OPERATIONS if one.path == path for method in one.methods.split()}
    assert described, f"{path} is served, but not described: {TOLD}"
    assert described == methods, f"{path} is served with {sorted(methods)}, described with {sorted(described)}: {TOLD}"


def test_every_described_route_is_served() -> None:
    assert {(method, one.path) for one in OPERATIONS for method in one.methods.split()} == served() - UNDESCRIBED
    assert len({one.path for one in OPERATIONS}) == len(OPERATIONS)


def names_read(function: Callable[..., object], receiver: str) -> set[str]:
    """The parameters that a function asks `receiver` for, and those that functions ask for that it hands `receiver` to."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    found: set[str] = set()
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        match call.func:
            case ast.Attribute(value=ast.Name(id=name), attr=method) if name == receiver:
                found |= set(_literals(call, method)) | names_read(getattr(params.Params, method), "self")
            case _:
                found |= _handed_on(call, function, receiver)
    return found


def _literals(call: ast.Call, method: str) -> Iterator[str]:
    """`all` takes several names, other methods one."""
    for argument in call.args if method == "all" else call.args[:1]:
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value


def _handed_on(call: ast.Call, function: Callable[..., object], receiver: str) -> set[str]:
    place = next((i for i, argument in enumerate(call.args) if isinstance(argument, ast.Name) and argument.id == receiver), None)
    if place is None:
        return set()
    match call.func:
        case ast.Name(id=name):
            callee = inspect.unwrap(function).__globals__.get(name)
        case ast.Attribute(value=ast.Name(id="api"), attr=name):
            callee, place = getattr(context.Api, name), place + 1
        case _:
            callee = None
    if callee is None or not inspect.isfunction(inspect.unwrap(callee)):
        return set()
    return names_read(callee, list(inspect.signature(inspect.unwrap(callee)).parameters)[place])


ENDPOINTS: dict[str, Callable[..., object]] = {
    **{f"/api/v1/{path}": endpoint for table in (routes.ENDPOINTS, routes.EARLY_ENDPOINTS) for _, path, endpoint in table},
    **{path: endpoint for table in (routes.PLAIN, routes.PLAIN_WHEN_READY) for _, path, endpoint in table},
}


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one.path in ENDPOINTS], ids=lambda one: one.path)
def test_parameters_are_those_that_the_endpoint_reads(operation: Operation) -> None:
    read = names_read(ENDPOINTS[operation.path], "params")
    described = {one.name for one in operation.parameters}
    assert described == read, f"{operation.path} reads {sorted(read)}, described are {sorted(described)}: {TOLD}"


FORCED = {"extra_filters[]", "extra_filters", "extra_label"}


def test_the_search_for_parameters_finds_them() -> None:
    """What the tests above rest on."""
    assert names_read(ENDPOINTS["/api/v1/query"], "params") >= {"query", "time", "timeout", "limit", "lookback_delta", "stats"}
    assert names_read(ENDPOINTS["/api/v1/query_range"], "params") >= {"start", "end", "step"}
    assert names_read(ENDPOINTS["/api/v1/labels"], "params") == {"match[]", "start", "end", "limit"} | FORCED


@pytest.mark.parametrize(("version", "validator"), [("3.1", OpenAPIV31SpecValidator), ("3.2", OpenAPIV32SpecValidator)])
async def test_the_document_is_good(open_client: Client, version: str, validator: Any) -> None:
    status, body, headers = await open_client.request("GET", f"/prom/api/v1/openapi.yaml?openapi_version={version}")
    assert (status, headers["Content-Type"]) == (200, "application/yaml")
    found = yaml.safe_load(body)
    validator(found).validate()
    assert found["openapi"] == f"{version}.0"
    assert found["servers"] == [{"url": "/prom"}]
    assert ("/api/v1/notifications/live" in found["paths"]) is (version == "3.2")
    assert {one["tags"][0] for path in found["paths"].values() for one in path.values()} <= {tag["name"] for tag in found["tags"]}


async def test_3_1_is_the_default_and_others_are_refused(client: Client) -> None:
    _, body, _ = await client.request("GET", "/api/v1/openapi.yaml")
    assert yaml.safe_load(body)["openapi"] == "3.1.0"
    assert (await client.get("openapi.yaml", openapi_version="2"))["error"].startswith('invalid parameter "openapi_version": ')


NOW = str(NOW_MS // 1000)
ASKED: list[tuple[str, dict[str, str]]] = [
    *(("query", {"query": query, "time": NOW, "stats": "all"}) for query in ("requests", "1", '"a"', "requests[1m]", "nothing")),
    ("query_range", {"query": "requests", "start": NOW, "end": NOW, "step": "1", "stats": "all"}),
    *((path, {"query": "rate(up[5m])"}) for path in ("format_query", "parse_query", "query_exemplars")),
    ("sql", {"query": "SELECT 1 AS a, 'b' AS b, NULL AS c"}),
    ("series", {"match[]": "requests"}),
    *((path, {}) for path in ("labels", "label/job/values", "metadata", "targets", "targets/metadata", "scrape_pools", "rules", "alerts")),
    *((path, {}) for path in ("alertmanagers", "features", "notifications", "status/buildinfo", "status/config", "status/flags")),
    *((path, {}) for path in ("status/runtimeinfo", "status/self_metrics", "status/tsdb/blocks", "status/walreplay")),
    *((path, {}) for path in ("status/active_queries", "status/top_queries")),
    ("status/tsdb", {"focusLabel": "job"}),
    ("targets/relabel_steps", {"scrapePool": "dropped", "labels": '{"job":"dropped"}'}),
    ("scrape_pools/config", {"scrapePool": "kept"}),
]


def answer_schema(path: str) -> Any:
    operation = next(one for one in OPERATIONS if one.path.replace("{name}", "job") == f"/api/v1/{path}")
    described: Any = document("3.2", "")["paths"]
    content = described[operation.path]["get"]["responses"]["200"]["content"]
    return content[JSON]["schema"]


@pytest.mark.parametrize(("path", "asked"), ASKED)
async def test_answers_are_as_described(client: Client, path: str, asked: dict[str, str]) -> None:
    status, body, _ = await client.request("GET", f"/api/v1/{path}", params=asked)
    assert status == 200, body
    OAS31Validator(answer_schema(path)).validate(orjson.loads(body))


def test_every_json_answer_of_a_get_was_compared() -> None:
    compared = {f"/api/v1/{path}" for path, _ in ASKED}
    assert {one.path.replace("{name}", "job") for one in OPERATIONS if one.answers == JSON and "GET" in one.methods} == compared
    assert openapi_table.TAGS.keys() == {one.tag for one in OPERATIONS}
