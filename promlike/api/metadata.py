"""`/api/v1/metadata`: type, help and unit of metrics."""

from collections.abc import Iterator
from itertools import islice

from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, answer
from promlike.api.params import Params
from promlike.storage.access import Metadata


async def metadata(api: Api, params: Params, request: web.Request) -> Answer:
    """A metric has several entries where targets disagree about it."""
    limit = params.count("limit")
    per_metric = params.count("limit_per_metric") or 0
    metric = params.text("metric")
    known = known_metadata(api, metric)
    few = islice(known.items(), None if limit is None or limit < 0 else limit)
    return answer({name: [_shown(entry) for entry in (entries[:per_metric] if per_metric > 0 else entries)] for name, entries in few})


def known_metadata(api: Api, metric: str = "") -> dict[str, list[Metadata]]:
    """What targets say now of every metric family, or of one, and what was stored of it last; equal entries once."""
    found: dict[str, dict[Metadata, None]] = {}
    for entry in _entries(api, metric):
        found.setdefault(entry.metric, {})[entry] = None
    return {name: list(entries) for name, entries in found.items()}


def _entries(api: Api, metric: str) -> Iterator[Metadata]:
    """By the names in storage, so that a limit leaves the same ones while targets come and go."""
    stored = api.storage.metadata()
    of_targets = {id(target.families): target.families.by_name for target in api.scrape.active_targets()}.values()
    said = [*of_targets, stored]
    if metric:
        yield from (entries[metric] for entries in said if metric in entries)
        return
    for name in dict.fromkeys(name for entries in (stored, *of_targets) for name in entries):
        yield from (entries[name] for entries in said if name in entries)


def _shown(entry: Metadata) -> dict[str, str]:
    return {"type": entry.type, "help": entry.help, "unit": entry.unit}
