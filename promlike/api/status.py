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
from promlike.model.durations import format_duration
from promlike.model.sizes import format_size
from promlike.storage.keep import KeepOptions
from promlike.storage.store import DAY_MS, StoredDay, StoreStats


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
            "storageRetention": _retention(api.storage.keep_options),
        }
    )


async def walreplay(api: Api, params: Params, request: web.Request) -> Answer:
    """Segments of the WAL; served while starting, too."""
    replay = api.storage.replay
    state = "done" if api.server.phase is not Phase.STARTING else "in progress" if replay.begun else "waiting"
    return answer({"min": replay.first_segment, "max": replay.last_segment, "current": replay.segment, "state": state})


async def blocks(api: Api, params: Params, request: web.Request) -> Answer:
    """`status/tsdb/blocks`: what the store holds, a day of UTC as a block, the oldest first. The last one may still grow.

    A series counts for every day from its first to its last sample; bytes are shared out by samples.
    """
    stats = await api.storage.store_stats()
    if stats.min_time_ms is None or stats.max_time_ms is None:
        return answer({"blocks": []})
    return answer({"blocks": [_block(api, stats, day) for day in await api.storage.stored_days()]})


def _block(api: Api, stats: StoreStats, day: StoredDay) -> dict[str, object]:
    """In the form of Prometheus, where `maxTime` is not in the block any more."""
    first = max(day.start_ms, stats.min_time_ms or day.start_ms)
    last = min(day.start_ms + DAY_MS - 1, stats.max_time_ms or day.start_ms)
    series = api.storage.gauges.series_between(first, last)
    size = stats.bytes * day.samples // max(stats.samples, 1)
    ulid = _ulid(day.start_ms)
    return {
        "ulid": ulid,
        "minTime": first,
        "maxTime": last + 1,
        "stats": {"numSamples": day.samples, "numSeries": series, "numChunks": series, "numBytes": size},
        "compaction": {"level": 1, "sources": [ulid]},
        "version": 1,
    }


def _ulid(ms: int) -> str:
    """An identifier whose first ten characters are a time in Crockford's base 32, as ULIDs have it, and whose random part is zero."""
    time_part = "".join("0123456789ABCDEFGHJKMNPQRSTVWXYZ"[max(ms, 0) >> shift & 31] for shift in range(45, -1, -5))
    return time_part + "0" * 16


def _retention(keep: KeepOptions) -> str:
    """As Prometheus writes it: `15d or 10GiB`."""
    time = [format_duration(keep.default_ms)] if keep.default_ms else []
    size = [format_size(keep.max_bytes)] if keep.max_bytes else []
    return " or ".join(time + size)


def _rfc3339(seconds: float, precision: str = "milliseconds") -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=precision).replace("+00:00", "Z")
