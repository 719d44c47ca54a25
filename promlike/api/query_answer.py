"""The answer to a query: its value cut to `limit` series, encoded in a worker thread, with statistics when asked for."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import orjson

from promlike.api.encode import encode_value
from promlike.api.envelope import Answer, truncated
from promlike.model.blocks import SampleBlock
from promlike.model.trace import Trace
from promlike.promql.engine import Engine
from promlike.promql.result import Matrix, QueryResult, QueryStats, Value, Vector

MOST_ANNOTATIONS = 10
"""So many warnings, and so many infos, an answer shows in full."""

INLINE_BELOW = 256
"""Values with fewer samples are encoded on the event loop, in less time than a switch to a thread takes."""


async def query_answer(result: QueryResult, *, limit: int, stats: str, times_ms: Sequence[int], engine: Engine, trace: Trace) -> Answer:
    """`stats` is the request's parameter of that name; `times_ms` are the evaluation times."""
    value, is_cut = cut(result.value, limit)
    samples = _samples(value)
    with trace.child("encode") as step:
        parts = encode_value(value) if samples < INLINE_BELOW else await engine.in_thread(partial(encode_value, value), samples)
        step.add("samples=%d, bytes=%d", samples, sum(map(len, parts)))
    if stats:
        parts += [b',"stats":', orjson.dumps(_stats(result.stats, times_ms, per_step=stats == "all"))]
    return Answer(
        data=[b"{", *parts, b"}"],
        warnings=_shown(result.warnings, "warning") + truncated(is_cut),
        infos=_shown(result.infos, "info"),
        lease=result.lease,
        trace=trace,
    )


def _shown(annotations: tuple[str, ...], kind: str) -> tuple[str, ...]:
    """The first of them, and how many more there are."""
    omitted = len(annotations) - MOST_ANNOTATIONS
    if omitted <= 0:
        return annotations
    return (*annotations[:MOST_ANNOTATIONS], f"{omitted} more {kind} annotations omitted")


def cut(value: Value, limit: int) -> tuple[Value, bool]:
    """The first `limit` series (0: all), and whether any were left out."""
    if not limit or not isinstance(value, Matrix | Vector) or len(value.labels) <= limit:
        return value, False
    labels = value.labels.take(np.arange(limit))
    if isinstance(value, Vector):
        return Vector(labels=labels, ts_ms=value.ts_ms[:limit], values=value.values[:limit]), True
    end = int(value.samples.offsets[limit])
    samples = SampleBlock(ts_ms=value.samples.ts_ms[:end], values=value.samples.values[:end], offsets=value.samples.offsets[: limit + 1])
    return Matrix(labels=labels, samples=samples), True


def _samples(value: Value) -> int:
    match value:
        case Matrix():
            return len(value.samples.ts_ms)
        case Vector():
            return len(value.ts_ms)
        case _:
            return 1


def timings(stats: QueryStats) -> dict[str, float]:
    """Seconds, to the nanosecond, in Prometheus's names and order."""
    total = stats.parse_seconds + stats.fetch_seconds + stats.eval_seconds
    return {
        "evalTotalTime": _number(total),
        "resultSortTime": 0,
        "queryPreparationTime": _number(stats.parse_seconds + stats.fetch_seconds),
        "innerEvalTime": _number(stats.eval_seconds),
        "execQueueTime": _number(stats.queue_seconds),
        "execTotalTime": _number(total + stats.queue_seconds),
    }


def _stats(stats: QueryStats, times_ms: Sequence[int], *, per_step: bool) -> dict[str, object]:
    """In Prometheus's names and order; times are seconds, to the nanosecond."""

    def steps(counts: Sequence[int]) -> list[list[float]]:
        return [[_number(ts_ms / 1000), count] for ts_ms, count in zip(times_ms, counts, strict=False)] if per_step else []

    return {
        "timings": timings(stats),
        "samples": ({"totalQueryableSamplesPerStep": looked_at} if (looked_at := steps(stats.samples_per_step)) else {})
        | {"totalQueryableSamples": stats.total_samples}
        | ({"samplesReadPerStep": read} if (read := steps(stats.read_per_step)) else {})
        | {"samplesRead": stats.samples_read, "peakSamples": stats.peak_samples},
        "resultCache": {
            "steps": stats.steps,
            "cachedSteps": stats.cached_steps,
            "hitRatio": _number(stats.cached_steps / stats.steps),
            "sharedSteps": stats.shared_steps,
            "sharedHitRatio": _number(stats.shared_steps / stats.steps),
        },
    }


def _number(seconds: float) -> float:
    """Go prints whole numbers without a point."""
    return int(seconds) if seconds.is_integer() else round(seconds, 9)
