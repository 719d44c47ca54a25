"""`/api/v1/targets`, `/targets/metadata`, `/scrape_pools`: what is scraped, and how that goes."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import orjson
from aiohttp import web

from promlike.api.context import Api
from promlike.api.envelope import Answer, answer
from promlike.api.errors import parameter
from promlike.api.params import Params
from promlike.config.load import job_yaml
from promlike.config.relabel import RelabelConfig
from promlike.config.scrape import ScrapeConfig
from promlike.errors import BadRequest
from promlike.model.durations import format_duration
from promlike.model.labels import Labels, quote
from promlike.model.matchers import Matcher
from promlike.promql.series_selector import series_selector
from promlike.scrape.relabel import LabelSet, Rule, compile_rules, relabel
from promlike.scrape.status import ActiveTarget, DroppedTarget

NEVER = "0001-01-01T00:00:00Z"


async def targets(api: Api, params: Params, request: web.Request) -> Answer:
    """A state that is neither active, dropped nor any is no error in Prometheus: both lists are empty then."""
    state = params.text("state").lower()
    pool = params.text("scrapePool")
    active = [target for target in api.scrape.active_targets() if state in ("", "any", "active") and pool in ("", target.scrape_pool)]
    dropped = [target for target in api.scrape.dropped_targets() if state in ("", "any", "dropped") and pool in ("", target.scrape_pool)]
    return answer(
        {
            "activeTargets": [_active(target) for target in active],
            "droppedTargets": [_dropped(target) for target in dropped],
            "droppedTargetCounts": api.scrape.dropped_counts(),
        }
    )


async def scrape_pools(api: Api, params: Params, request: web.Request) -> Answer:
    return answer({"scrapePools": sorted(api.scrape.scrape_pools())})


async def scrape_pool_config(api: Api, params: Params, request: web.Request) -> Answer:
    """Of any job, those of scrape_config_files included."""
    return answer({"yaml": job_yaml(_job(api, params))})


async def relabel_steps(api: Api, params: Params, request: web.Request) -> Answer:
    """What every rule of a job makes of the labels of a target, up to the rule that drops it."""
    job = _job(api, params)
    text = params.text("labels")
    if not text:
        raise BadRequest("no labels parameter provided")
    return answer({"steps": list(_steps(_label_set(text), compile_rules(job.relabel_configs)))})


def _job(api: Api, params: Params) -> ScrapeConfig:
    name = params.text("scrapePool")
    if not name:
        raise BadRequest("no scrapePool parameter provided")
    job = api.scrape.config_of(name)
    if job is None:
        raise BadRequest(f"error retrieving scrape config: scrape pool {quote(name)} not found")
    return job


def _label_set(text: str) -> LabelSet:
    try:
        labels = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"error parsing labels: {error}") from error
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise BadRequest("error parsing labels: an object with strings is needed")
    return labels


def _steps(labels: LabelSet, rules: Sequence[Rule]) -> Iterator[dict[str, object]]:
    for rule in rules:
        keep = relabel(labels, [rule])
        yield {"rule": _rule(rule.config), "output": dict(sorted(labels.items())) if keep else {}, "keep": keep}
        if not keep:
            return


def _rule(config: RelabelConfig) -> dict[str, object]:
    """As in a configuration file, with the defaults that a rule is read with."""
    about: dict[str, object] = {"source_labels": list(config.source_labels), "modulus": config.modulus, "target_label": config.target_label}
    always = {"separator": config.separator, "regex": config.regex, "replacement": config.replacement, "action": config.action.value}
    return {name: value for name, value in about.items() if value} | always


async def targets_metadata(api: Api, params: Params, request: web.Request) -> Answer:
    """What each matching target said of its metric families when it was scraped last; after the target that reaches `limit`, no more."""
    limit = params.count("limit")
    matchers: tuple[Matcher, ...] = ()
    if params.text("match_target"):
        with parameter("match_target"):
            matchers = series_selector(params.text("match_target"))
    metric = params.text("metric")
    entries: list[dict[str, object]] = []
    for target in api.scrape.active_targets():
        if limit is not None and 0 <= limit <= len(entries):
            break
        if _matches(target.labels, matchers):
            entries += _metadata(target, metric)
    return answer(entries)


def _metadata(target: ActiveTarget, metric: str) -> Iterator[dict[str, object]]:
    labels, families = dict(target.labels), target.families.by_name
    for entry in (families[name] for name in ([metric] if metric else families) if name in families):
        about: dict[str, object] = {"target": labels} if metric else {"target": labels, "metric": entry.metric}
        yield about | {"type": entry.type, "help": entry.help, "unit": entry.unit}


def _matches(labels: Labels, matchers: tuple[Matcher, ...]) -> bool:
    values = dict(labels)
    return all(matcher.matches(values.get(matcher.name, "")) for matcher in matchers)


def _active(target: ActiveTarget) -> dict[str, object]:
    return {
        "discoveredLabels": dict(target.discovered_labels),
        "labels": dict(target.labels),
        "scrapePool": target.scrape_pool,
        "scrapeUrl": target.scrape_url,
        "globalUrl": target.global_url,
        "lastError": target.last_error,
        "lastScrape": NEVER if target.last_scrape_ms is None else _rfc3339(target.last_scrape_ms),
        "lastScrapeDuration": target.last_scrape_duration_s or 0,
        "health": target.health.value,
        "scrapeInterval": format_duration(target.scrape_interval_ms),
        "scrapeTimeout": format_duration(target.scrape_timeout_ms),
    }


def _dropped(target: DroppedTarget) -> dict[str, object]:
    return {"discoveredLabels": dict(target.discovered_labels), "scrapePool": target.scrape_pool}


def _rfc3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
