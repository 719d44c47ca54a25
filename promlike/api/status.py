"""`/api/v1/status/…`: what the server is, how it was started, how it is doing."""

import gc
import os
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path
from time import time

import orjson
from aiohttp import web

from promlike.api.context import Api, Phase
from promlike.api.envelope import Answer, answer
from promlike.api.params import Params
from promlike.api.version import build_info


async def buildinfo(api: Api, params: Params, request: web.Request) -> Answer:
    return answer(build_info())


async def version(api: Api, request: web.Request) -> web.Response:
    """`/version`: the same, without an envelope."""
    return web.Response(body=orjson.dumps(build_info()) + b"\n", content_type="text/plain", charset="utf-8")


async def config(api: Api, params: Params, request: web.Request) -> Answer:
    return answer({"yaml": api.server.config_yaml})


async def flags(api: Api, params: Params, request: web.Request) -> Answer:
    return answer(dict(api.web.flags))


async def runtimeinfo(api: Api, params: Params, request: web.Request) -> Answer:
    return answer(
        {
            "startTime": _rfc3339(api.server.started_at),
            "CWD": str(Path.cwd()),
            "hostname": socket.gethostname(),
            "serverTime": _rfc3339(time()),
            "reloadConfigSuccess": api.server.config_loaded,
            "lastConfigTime": _rfc3339(int(api.server.config_loaded_at), "seconds"),
            "corruptionCount": 0,
            "goroutineCount": threading.active_count(),
            "GOMAXPROCS": os.cpu_count() or 1,
            "GOMEMLIMIT": 0,
            "GOGC": str(gc.get_threshold()[0]),
            "GODEBUG": "",
            "storageRetention": api.web.retention,
        }
    )


async def walreplay(api: Api, params: Params, request: web.Request) -> Answer:
    """Served while starting, too."""
    done = api.server.phase is not Phase.STARTING
    return answer({"min": 0, "max": 0, "current": 0, "state": "done" if done else "in progress"})


def _rfc3339(seconds: float, precision: str = "milliseconds") -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=precision).replace("+00:00", "Z")
