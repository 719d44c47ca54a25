"""`promlike query instant|range URL EXPR`: ask a server and print its answer."""

import sys
from collections.abc import Sequence
from http.client import HTTPException
from time import time
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import orjson

from promlike.cli.flags import Flag, FlagError, Kind, parse_flags

TIMES = tuple(Flag(name=name, kind=Kind.TEXT, default="", help="") for name in ("time", "start", "end", "step"))
ENDPOINTS = {"instant": "query", "range": "query_range"}


def query(words: Sequence[str]) -> int:
    """Exit code: 1 when the server cannot be asked or refuses."""
    flags = [word for word in words if word.startswith("--")]
    plain = [word for word in words if not word.startswith("--")]
    if len(plain) != 3 or plain[0] not in ENDPOINTS:
        print("usage: promlike query instant|range URL EXPR [--time=…] [--start=… --end=… --step=…]", file=sys.stderr)
        return 2
    try:
        given = parse_flags(flags, TIMES).texts
    except FlagError as error:
        print(f"promlike: {error}", file=sys.stderr)
        return 2
    form = {name: value for name, value in given.items() if value} | {"query": plain[2]}
    if plain[0] == "range":
        now = time()
        form = {"start": str(now - 300), "end": str(now), "step": "15"} | form
    return _ask(f"{plain[1].rstrip('/')}/api/v1/{ENDPOINTS[plain[0]]}", form)


def _ask(url: str, form: dict[str, str]) -> int:
    if not url.startswith(("http://", "https://")):
        print(f"promlike: {url!r} is not an http or https URL", file=sys.stderr)
        return 2
    try:
        with urlopen(Request(url, urlencode(form).encode()), timeout=130) as answer:
            body = orjson.loads(answer.read())
    except HTTPError as error:
        print(f"promlike: {_refusal(error)}", file=sys.stderr)
        return 1
    except URLError as error:
        print(f"promlike: cannot ask {url}: {error.reason}", file=sys.stderr)
        return 1
    except (OSError, HTTPException, orjson.JSONDecodeError) as error:
        print(f"promlike: cannot ask {url}: {error}", file=sys.stderr)
        return 1
    for warning in [*body.get("warnings", ()), *body.get("infos", ())]:
        print(warning, file=sys.stderr)
    _show(body["data"])
    return 0


def _refusal(error: HTTPError) -> str:
    """What the API says is wrong, or the whole answer of something that is no such API."""
    body = error.read()
    try:
        answer = orjson.loads(body)
        return f"{answer['errorType']}: {answer['error']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"{error.code} {body.decode(errors='replace').strip()}"


def _show(data: dict[str, object]) -> None:
    """One line a sample, series first."""
    result = data["result"]
    if not isinstance(result, list) or data["resultType"] in ("scalar", "string"):
        print(*reversed(result), sep=" @") if isinstance(result, list) else print(result)
        return
    for series in result:
        name = _series_text(series["metric"])
        for time_, value in series.get("values", [series.get("value")]):
            print(f"{name} => {value} @[{time_}]")


def _series_text(labels: dict[str, str]) -> str:
    pairs = ", ".join(f'{name}="{value}"' for name, value in labels.items() if name != "__name__")
    return labels.get("__name__", "") + f"{{{pairs}}}"
