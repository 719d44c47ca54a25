"""The `*_over_time` functions and the other functions of a range vector that look at each window by itself."""

from collections.abc import Callable

import numpy as np

from promlike.errors import QueryError
from promlike.model.blocks import Bool, Float64, SampleBlock
from promlike.promql.calls import arguments
from promlike.promql.calls.number_text import format_g
from promlike.promql.context import CallContext, Evaluator
from promlike.promql.kernels.quantile import window_quantile
from promlike.promql.kernels.regression import double_exponential, linear_regression
from promlike.promql.kernels.rollup import Extreme, Rollup, rollup, window_extremes
from promlike.promql.vector import RangeValue, Value, VectorValue

Kernel = Callable[[SampleBlock, Float64, Bool], None]
"""Fills `out float64[S,T]`, `present bool[S,T]` of the series of a block, whose offsets need not begin at 0."""


def run(context: CallContext, ranges: RangeValue, kernel: Kernel) -> VectorValue:
    """Apply a kernel to every series, portion by portion, spread over threads: `kernel(samples, out, present)`."""
    out, present = arguments.new_block(len(ranges), context.grid.count)
    samples = ranges.samples

    def chunk(low: int, high: int) -> None:
        for start in range(low, high, samples.portion):
            context.deadline.check()
            end = min(start + samples.portion, high)
            kernel(samples.rows(start, end), out[start:end], present[start:end])

    context.map_series(chunk, len(ranges), work=samples.count + out.size)
    return ranges.vector(out, present)


def rolling(op: Rollup) -> Evaluator:
    def evaluate(context: CallContext, args: list[Value]) -> VectorValue:
        return _rollup(context, arguments.range_vector(args, 0), op)

    return evaluate


def _rollup(context: CallContext, ranges: RangeValue, op: Rollup) -> VectorValue:
    return run(
        context,
        ranges,
        lambda samples, out, present: rollup(
            samples.ts_ms, samples.values, samples.offsets, ranges.ends_ms, ranges.range_ms, int(op), out, present
        ),
    )


def extreme(op: Extreme) -> Evaluator:
    def evaluate(context: CallContext, args: list[Value]) -> VectorValue:
        ranges = arguments.range_vector(args, 0)
        return run(
            context,
            ranges,
            lambda samples, out, present: window_extremes(
                samples.ts_ms, samples.values, samples.offsets, ranges.ends_ms, ranges.range_ms, int(op), out, present
            ),
        )

    return evaluate


def _quantile(context: CallContext, ranges: RangeValue, phi: Float64, mad: bool) -> VectorValue:
    return run(
        context,
        ranges,
        lambda samples, out, present: window_quantile(
            samples.ts_ms, samples.values, samples.offsets, ranges.ends_ms, ranges.range_ms, phi, mad, out, present
        ),
    )


def quantile_over_time(context: CallContext, args: list[Value]) -> VectorValue:
    phi = arguments.scalar(args, 0)
    result = _quantile(context, arguments.range_vector(args, 1), phi, False)
    shown: Bool = np.any(result.block.present, axis=0)
    warn_of_quantiles(context, phi, 0, shown)
    return result


def mad_over_time(context: CallContext, args: list[Value]) -> VectorValue:
    """Median absolute deviation."""
    return _quantile(context, arguments.range_vector(args, 0), np.empty(0), True)


def warn_of_quantiles(context: CallContext, phi: Float64, argument: int, where: Bool | None = None) -> None:
    """Warn of every φ (float64[T]) that is not in [0, 1], at the steps `where bool[T]` (None: all)."""
    wrong = ~((phi >= 0) & (phi <= 1))
    if where is not None:
        wrong &= where
    values = dict.fromkeys(format_g(value) for value in phi[wrong].tolist())
    for value in values:
        # Of several values, the order depends on which steps come first.
        steps = wrong if len(values) == 1 else None
        context.warn(f"quantile value should be between 0 and 1, got {value}", context.node.args[argument], steps)


def _regression(context: CallContext, ranges: RangeValue, ahead: Float64) -> VectorValue:
    times_ms = context.grid.times_ms()
    return run(
        context,
        ranges,
        lambda samples, out, present: linear_regression(
            samples.ts_ms, samples.values, samples.offsets, ranges.ends_ms, ranges.range_ms, times_ms, ahead, out, present
        ),
    )


def deriv(context: CallContext, args: list[Value]) -> VectorValue:
    return _regression(context, arguments.range_vector(args, 0), np.empty(0))


def predict_linear(context: CallContext, args: list[Value]) -> VectorValue:
    return _regression(context, arguments.range_vector(args, 0), arguments.scalar(args, 1))


def double_exponential_smoothing(context: CallContext, args: list[Value]) -> VectorValue:
    ranges = arguments.range_vector(args, 0)
    smoothing = arguments.scalar(args, 1)
    trend = arguments.scalar(args, 2)
    for name, factors, letters in (("smoothing", smoothing, "sf"), ("trend", trend, "tf")):
        wrong = (factors <= 0) | (factors >= 1)
        if wrong.any():
            # A factor matters only at steps at which there is something to smooth.
            wrong &= _rollup(context, ranges, Rollup.PRESENT).block.present.any(axis=0)
        if wrong.any():
            raise QueryError(f"invalid {name} factor. Expected: 0 < {letters} < 1, got: {factors[wrong][0]:f}")
    return run(
        context,
        ranges,
        lambda samples, out, present: double_exponential(
            samples.ts_ms, samples.values, samples.offsets, ranges.ends_ms, ranges.range_ms, smoothing, trend, out, present
        ),
    )


EVALUATORS: dict[str, Evaluator] = {
    "sum_over_time": rolling(Rollup.SUM),
    "avg_over_time": rolling(Rollup.AVG),
    "count_over_time": rolling(Rollup.COUNT),
    "last_over_time": rolling(Rollup.LAST),
    "first_over_time": rolling(Rollup.FIRST),
    "present_over_time": rolling(Rollup.PRESENT),
    "stdvar_over_time": rolling(Rollup.STDVAR),
    "stddev_over_time": rolling(Rollup.STDDEV),
    "ts_of_last_over_time": rolling(Rollup.TIME_OF_LAST),
    "ts_of_first_over_time": rolling(Rollup.TIME_OF_FIRST),
    "min_over_time": extreme(Extreme.MIN),
    "max_over_time": extreme(Extreme.MAX),
    "ts_of_min_over_time": extreme(Extreme.TIME_OF_MIN),
    "ts_of_max_over_time": extreme(Extreme.TIME_OF_MAX),
    "quantile_over_time": quantile_over_time,
    "mad_over_time": mad_over_time,
    "deriv": deriv,
    "predict_linear": predict_linear,
    "double_exponential_smoothing": double_exponential_smoothing,
}
