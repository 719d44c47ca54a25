"""The `*_over_time` functions and the other functions of a range vector that look at each window by itself."""

from collections.abc import Callable

import numpy as np

from promlike.errors import QueryError
from promlike.model.blocks import Bool, Float64, SampleBlock
from promlike.promql.calls import arguments
from promlike.promql.calls.number_text import format_g
from promlike.promql.context import LARGEST_CHUNK, CallContext, Evaluator
from promlike.promql.kernels.quantile import window_quantile
from promlike.promql.kernels.regression import double_exponential, linear_regression
from promlike.promql.kernels.rollup import Extreme, Rollup, rollup, window_extremes
from promlike.promql.vector import RangeValue, Value, VectorValue

Kernel = Callable[[SampleBlock, slice, Float64, Bool], None]
"""`kernel(samples, steps, out, present)` fills `out float64[S,T]`, `present bool[S,T]` of the series of a block, whose offsets need not
begin at 0, for the T steps of a slice of the grid."""

ALL_STEPS = slice(None)


def run(context: CallContext, ranges: RangeValue, kernel: Kernel, *, walks: bool = False) -> VectorValue:
    """Apply a kernel to every series, portion by portion, spread over threads.

    `walks`: the kernel visits every sample of every window. Such work is told by its visits, and cut between steps too where the windows
    of a single series would keep a thread past the deadline. Others slide from step to step, so a cut would cost them more than it ends.
    """
    out, present = arguments.new_block(len(ranges), context.grid.count)
    samples = ranges.samples
    windows = windows_of_a_sample(ranges) if walks else 1

    def visits(block: SampleBlock) -> int:
        return int(block.offsets[-1] - block.offsets[0]) * windows

    def by_steps(block: SampleBlock, row: int) -> None:
        parts = min(context.grid.count, visits(block) // LARGEST_WALK + 1)
        for part in range(parts):
            context.deadline.check()
            steps = slice(context.grid.count * part // parts, context.grid.count * (part + 1) // parts)
            kernel(block, steps, out[row : row + 1, steps], present[row : row + 1, steps])

    def chunk(low: int, high: int) -> None:
        for start in range(low, high, samples.portion):
            context.deadline.check()
            end = min(start + samples.portion, high)
            block = samples.rows(start, end)
            if walks and visits(block) > LARGEST_WALK:
                for row in range(end - start):
                    by_steps(block.rows(row, row + 1), start + row)
            else:
                kernel(block, ALL_STEPS, out[start:end], present[start:end])

    context.map_series(chunk, len(ranges), work=samples.count * windows + out.size)
    return ranges.vector(out, present)


LARGEST_WALK = 20 * LARGEST_CHUNK
"""Visits after which the deadline is looked at between steps: some tens of milliseconds."""


def windows_of_a_sample(ranges: RangeValue) -> int:
    """How many windows hold one sample, at most."""
    steps = len(ranges.ends_ms)
    between_ms = int(ranges.ends_ms[-1] - ranges.ends_ms[0]) // max(steps - 1, 1)
    return min(steps, ranges.range_ms // between_ms + 1) if between_ms else steps


def rolling(op: Rollup) -> Evaluator:
    def evaluate(context: CallContext, args: list[Value]) -> VectorValue:
        return _rollup(context, arguments.range_vector(args, 0), op)

    return evaluate


WALKING = (Rollup.SUM, Rollup.AVG, Rollup.STDVAR, Rollup.STDDEV)


def _rollup(context: CallContext, ranges: RangeValue, op: Rollup) -> VectorValue:
    return run(
        context,
        ranges,
        lambda samples, steps, out, present: rollup(
            samples.ts_ms, samples.values, samples.offsets, ranges.ends_ms[steps], ranges.range_ms, int(op), out, present
        ),
        walks=op in WALKING,
    )


def extreme(op: Extreme) -> Evaluator:
    def evaluate(context: CallContext, args: list[Value]) -> VectorValue:
        ranges = arguments.range_vector(args, 0)
        return run(
            context,
            ranges,
            lambda samples, steps, out, present: window_extremes(
                samples.ts_ms, samples.values, samples.offsets, ranges.ends_ms[steps], ranges.range_ms, int(op), out, present
            ),
        )

    return evaluate


def _quantile(context: CallContext, ranges: RangeValue, phi: Float64, mad: bool) -> VectorValue:
    return run(
        context,
        ranges,
        lambda samples, steps, out, present: window_quantile(
            samples.ts_ms, samples.values, samples.offsets, ranges.ends_ms[steps], ranges.range_ms, phi[steps], mad, out, present
        ),
        walks=True,
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
        lambda samples, steps, out, present: linear_regression(
            samples.ts_ms,
            samples.values,
            samples.offsets,
            ranges.ends_ms[steps],
            ranges.range_ms,
            times_ms[steps],
            ahead[steps],
            out,
            present,
        ),
        walks=True,
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
        lambda samples, steps, out, present: double_exponential(
            samples.ts_ms,
            samples.values,
            samples.offsets,
            ranges.ends_ms[steps],
            ranges.range_ms,
            smoothing[steps],
            trend[steps],
            out,
            present,
        ),
        walks=True,
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
