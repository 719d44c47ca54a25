"""`rate` and its family: `increase`, `delta`, `irate`, `idelta`, `resets`, `changes`, with `anchored`, `smoothed` and start timestamps."""

import numpy as np

from promlike.model.blocks import Bool, Int64, SampleBlock
from promlike.model.frame import group_rows
from promlike.model.labels import METRIC_NAME, quote
from promlike.promql.calls import arguments
from promlike.promql.calls.over_time import run
from promlike.promql.context import CallContext, Evaluator
from promlike.promql.kernels.counter import Events, count_events, extrapolated_rate, instant_rate
from promlike.promql.kernels.extended import extended_rate
from promlike.promql.vector import RangeValue, Value, VectorValue

COUNTER_SUFFIXES = ("_total", "_sum", "_count", "_bucket")
COUNTER_TYPES = ("counter", "histogram")


def _starts(context: CallContext, samples: SampleBlock) -> Int64:
    """Start timestamps as kernels want them: int64[N], or empty when there are none or they are switched off."""
    if samples.start_ts_ms is None or not context.features.use_start_timestamps:
        return arguments.NO_STARTS
    return samples.start_ts_ms


def range_seconds(range_ms: int) -> float:
    """As Go's Duration.Seconds computes it, which for some ranges is another double than range_ms / 1000."""
    whole, rest = divmod(range_ms, 1000)
    return whole + rest * 1_000_000 / 1e9


def rated(*, is_counter: bool, is_rate: bool) -> Evaluator:
    """`rate` (counter, per second), `increase` (counter), `delta` (neither)."""

    def evaluate(context: CallContext, args: list[Value]) -> VectorValue:
        ranges = arguments.range_vector(args, 0)
        result = _extended(context, ranges, is_counter, is_rate) if ranges.anchored or ranges.smoothed else None
        if result is None:
            result = _extrapolated(context, ranges, is_counter, is_rate)
        if is_counter:
            doubt_counters(context, result)
        return result

    return evaluate


def _extrapolated(context: CallContext, ranges: RangeValue, is_counter: bool, is_rate: bool) -> VectorValue:
    seconds = range_seconds(ranges.range_ms)
    return run(
        context,
        ranges,
        lambda samples, steps, out, present: extrapolated_rate(
            samples.ts_ms,
            samples.values,
            samples.offsets,
            _starts(context, samples),
            ranges.ends_ms[steps],
            ranges.range_ms,
            seconds,
            is_counter,
            is_rate,
            out,
            present,
        ),
    )


def _extended(context: CallContext, ranges: RangeValue, is_counter: bool, is_rate: bool) -> VectorValue:
    seconds = range_seconds(ranges.range_ms)
    return run(
        context,
        ranges,
        lambda samples, steps, out, present: extended_rate(
            samples.ts_ms,
            samples.values,
            samples.offsets,
            ranges.ends_ms[steps],
            ranges.range_ms,
            ranges.lookback_ms,
            seconds,
            ranges.smoothed,
            is_counter,
            is_rate,
            out,
            present,
        ),
    )


def instant(*, is_rate: bool) -> Evaluator:
    """`irate` (per second, aware of resets) and `idelta`."""

    def evaluate(context: CallContext, args: list[Value]) -> VectorValue:
        ranges = arguments.range_vector(args, 0)
        return run(
            context,
            ranges,
            lambda samples, steps, out, present: instant_rate(
                samples.ts_ms,
                samples.values,
                samples.offsets,
                _starts(context, samples),
                ranges.ends_ms[steps],
                ranges.range_ms,
                is_rate,
                out,
                present,
            ),
        )

    return evaluate


def counting(op: Events) -> Evaluator:
    """`changes` and `resets`."""

    def evaluate(context: CallContext, args: list[Value]) -> VectorValue:
        ranges = arguments.range_vector(args, 0)
        anchor_ms = ranges.lookback_ms if ranges.anchored else -1
        return run(
            context,
            ranges,
            lambda samples, steps, out, present: count_events(
                samples.ts_ms,
                samples.values,
                samples.offsets,
                _starts(context, samples),
                ranges.ends_ms[steps],
                ranges.range_ms,
                anchor_ms,
                int(op),
                out,
                present,
            ),
        )

    return evaluate


def doubt_counters(context: CallContext, result: VectorValue) -> None:
    """An info for every metric among the results that is not a counter by its `__type__`, when that counts and is known, or by its name."""
    shown = np.flatnonzero(np.any(result.block.present, axis=1))
    labels = result.labels.take(shown)
    names = labels.column(METRIC_NAME)
    types = labels.column("__type__") if context.features.type_and_unit_labels else np.zeros(len(names), np.int32)
    groups, first = group_rows(np.column_stack((names, types)))
    texts = zip(labels.symbols.texts(names[first]), labels.symbols.texts(types[first]), strict=True)
    for group, (name, kind) in enumerate(texts):
        if name and kind and kind not in COUNTER_TYPES:
            doubt = f'__type__ label is not set to "counter" or "histogram", got {quote(kind)}: {quote(name)}'
        elif name and not kind and not name.endswith(COUNTER_SUFFIXES):
            doubt = f"name does not end in _total/_sum/_count/_bucket: {quote(name)}"
        else:
            continue
        steps: Bool = result.block.present[shown[groups == group]].any(axis=0)
        context.info(f"metric might not be a counter, {doubt}", context.node.args[0], steps=steps)


EVALUATORS: dict[str, Evaluator] = {
    "rate": rated(is_counter=True, is_rate=True),
    "increase": rated(is_counter=True, is_rate=False),
    "delta": rated(is_counter=False, is_rate=False),
    "irate": instant(is_rate=True),
    "idelta": instant(is_rate=False),
    "resets": counting(Events.RESETS),
    "changes": counting(Events.CHANGES),
}
