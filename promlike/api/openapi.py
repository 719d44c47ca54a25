"""`/api/v1/openapi.yaml`: this API, described for machines."""

import asyncio
import re
from functools import lru_cache
from urllib.parse import quote as quote_url

import yaml
from aiohttp import web

from promlike import __version__
from promlike.api.context import Api
from promlike.api.envelope import send
from promlike.api.errors import InvalidParameter
from promlike.api.openapi_parts import EVENTS, JSON, NDJSON, TRACE, Operation, Parameter
from promlike.api.openapi_schema import NUMBER, TEXT, TEXTS, Schema, list_of, one_of, record
from promlike.api.openapi_table import OPERATIONS, TAGS
from promlike.api.params import Params
from promlike.model.labels import quote

VERSIONS = {"3.1": "3.1.0", "3.2": "3.2.0"}

Document = dict[str, object]


async def openapi(api: Api, params: Params, request: web.Request) -> web.Response:
    version = params.text("openapi_version") or "3.1"
    if version not in VERSIONS:
        raise InvalidParameter("openapi_version", f"not supported value {quote(version)}, {' or '.join(VERSIONS)} is needed")
    return await send(request, 200, [await asyncio.to_thread(_yaml, version, api.web.route_prefix)], content_type="application/yaml")


class _Dumper(yaml.SafeDumper):
    """Writes what stands in several places in each of them."""

    def ignore_aliases(self, data: object) -> bool:
        return True


@lru_cache(maxsize=4)
def _yaml(version: str, prefix: str) -> bytes:
    return yaml.dump(document(version, prefix), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=140).encode()


def document(version: str, prefix: str) -> Document:
    """All operations that this version of OpenAPI can describe."""
    paths: dict[str, Document] = {}
    for operation in OPERATIONS:
        if operation.since <= version:
            paths[operation.path] = {method.lower(): _operation(operation, method) for method in operation.methods.split()}
    return {
        "openapi": VERSIONS[version],
        "info": {
            "title": "promlike",
            "version": __version__,
            "description": "The HTTP API of Prometheus 3, over a SQL database.",
        },
        "servers": [{"url": quote_url(prefix) or "/"}],
        "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR, "Trace": _TRACE}, "responses": {"Error": _ERROR_RESPONSE}},
    }


_ERROR = record(status=one_of("error"), errorType=TEXT, error=TEXT)
_TRACE_REF = {"$ref": "#/components/schemas/Trace"}
_TRACE = record({"children": list_of(_TRACE_REF)}, duration_msec=NUMBER, message=TEXT)
_ERROR_RESPONSE = {
    "description": "400 bad_data, 404 not_found, 422 execution, 503 timeout, canceled or unavailable, 500 internal.",
    "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
}
_BINARY = {"type": "string", "contentMediaType": "application/octet-stream"}


def _operation(operation: Operation, method: str) -> Document:
    found: Document = {
        "operationId": _identifier(operation.path, method),
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [*_in_path(operation.path), *(_in_url(one, method) for one in operation.parameters)],
        "responses": {str(operation.status): _response(operation, method)},
    }
    if operation.answers in (JSON, NDJSON):
        found["responses"] = {**_mapping(found["responses"]), "default": {"$ref": "#/components/responses/Error"}}
    if operation.body:
        found["requestBody"] = {"required": True, "content": {operation.body: {"schema": _BINARY}}}
    elif method != "GET" and operation.parameters:
        found["requestBody"] = {"content": {"application/x-www-form-urlencoded": {"schema": _form(operation.parameters)}}}
    return found


def _mapping(value: object) -> Document:
    return dict(value) if isinstance(value, dict) else {}


def _identifier(path: str, method: str) -> str:
    """`get_label_name_values`"""
    return "_".join([method.lower(), *re.findall(r"\w+", path.removeprefix("/api/v1"))])


def _in_path(path: str) -> list[Document]:
    return [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in re.findall(r"\{(\w+)\}", path)]


def _in_url(parameter: Parameter, method: str) -> Document:
    """With POST a parameter may stand in the body instead, so none is required in the URL."""
    return {
        "name": parameter.name,
        "in": "query",
        "description": parameter.about,
        "required": parameter.required and method == "GET",
        "schema": _schema(parameter),
    }


def _schema(parameter: Parameter) -> Document:
    return dict(TEXTS) if parameter.repeated else dict(parameter.schema)


def _form(parameters: tuple[Parameter, ...]) -> Document:
    return {"type": "object", "properties": {one.name: _schema(one) | {"description": one.about} for one in parameters}}


def _response(operation: Operation, method: str) -> Document:
    if operation.status == 204 or method == "HEAD":
        return {"description": "Done." if operation.status == 204 else "As GET, without a body."}
    return {
        "description": operation.summary,
        "content": {operation.answers: _content(operation), **{kind: {"schema": TEXT} for kind in operation.also}},
    }


def _content(operation: Operation) -> Document:
    """An envelope around the data of JSON, the data of one event, or plain text."""
    if operation.answers == EVENTS:
        event = record(data={"type": "string", "contentMediaType": JSON, "contentSchema": operation.data})
        return {"itemSchema": event}
    if operation.data is None or operation.answers != JSON:
        return {"schema": TEXT}
    traced: dict[str, Schema] = {"trace": _TRACE_REF} if TRACE in operation.parameters else {}
    return {"schema": record({"warnings": TEXTS, "infos": TEXTS} | traced, status=one_of("success"), data=operation.data)}
