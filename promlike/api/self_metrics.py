"""`/api/v1/status/self_metrics`: what `/metrics` shows, as JSON in the form that protobuf gives a MetricFamily."""

from collections import defaultdict
from math import isfinite

from aiohttp import web
from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from promlike.api.context import Api
from promlike.api.envelope import Answer, answer
from promlike.api.errors import parameter
from promlike.api.params import Params
from promlike.model.matchers import compile_regex

LabelKey = tuple[tuple[str, str], ...]
TYPES = {"counter": "COUNTER", "gauge": "GAUGE", "summary": "SUMMARY", "histogram": "HISTOGRAM"}


async def self_metrics(api: Api, params: Params, request: web.Request) -> Answer:
    pattern = params.text("metric_name_pattern")
    families = [_family(family) for family in api.metrics.families()]
    if pattern:
        with parameter("metric_name_pattern"):
            regex = compile_regex(pattern)
        families = [family for family in families if regex.fullmatch(family["name"]) is not None]
    return answer(families)


def _family(family: Metric) -> dict[str, object]:
    """Names of counters end as their samples do."""
    kind = TYPES.get(family.type, "UNTYPED")
    members: defaultdict[LabelKey, list[Sample]] = defaultdict(list)
    for sample in family.samples:
        apart = {"le"} if kind == "HISTOGRAM" else {"quantile"} if kind == "SUMMARY" else set()
        members[tuple((name, text) for name, text in sorted(sample.labels.items()) if name not in apart)].append(sample)
    name = f"{family.name}_total" if kind == "COUNTER" else family.name
    about: dict[str, object] = {"name": name, "help": family.documentation, "type": kind}
    metrics = [
        {"label": [{"name": label, "value": text} for label, text in key]} | {kind.lower(): _value(kind, samples)}
        for key, samples in members.items()
    ]
    return about | ({"unit": family.unit} if family.unit else {}) | {"metric": metrics}


def _value(kind: str, samples: list[Sample]) -> dict[str, object]:
    """The part that depends on the type. Whole numbers of 64 bits are strings, as protobuf's JSON has them."""
    if kind not in ("HISTOGRAM", "SUMMARY"):
        return {"value": _number(samples[-1].value)}
    ends = {sample.name.rpartition("_")[2]: sample.value for sample in samples}
    value: dict[str, object] = {"sampleCount": str(int(ends.get("count", 0))), "sampleSum": _number(ends.get("sum", 0))}
    return value | dict([_parts(kind, samples)])


def _parts(kind: str, samples: list[Sample]) -> tuple[str, list[dict[str, object]]]:
    if kind == "HISTOGRAM":
        buckets = [sample for sample in samples if "le" in sample.labels]
        return "bucket", [{"cumulativeCount": str(int(one.value)), "upperBound": _number(float(one.labels["le"]))} for one in buckets]
    quantiles = [sample for sample in samples if "quantile" in sample.labels]
    return "quantile", [{"quantile": float(one.labels["quantile"]), "value": _number(one.value)} for one in quantiles]


def _number(value: float) -> float | str:
    if isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
