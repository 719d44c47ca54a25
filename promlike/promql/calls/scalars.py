"""Functions around scalars and time: `scalar`, `vector`, `time`, `timestamp`, `pi`, and the window of the query."""

import math
from collections.abc import Callable

import numpy as np

from promlike.promql.calls import arguments
from promlike.promql.context import CallContext, Evaluator, QueryWindow
from promlike.promql.vector import ScalarValue, Value, VectorValue


def scalar(context: CallContext, args: list[Value]) -> ScalarValue:
    """The value of a vector's only sample; NaN where there is none or more than one."""
    block = arguments.vector(args, 0).block
    alone = block.present.sum(axis=0) == 1
    values = np.full(context.grid.count, math.nan)
    if alone.any():
        rows = block.present.argmax(axis=0)
        values[alone] = block.values[rows[alone], np.flatnonzero(alone)]
    return ScalarValue(values=values)


def vector(context: CallContext, args: list[Value]) -> VectorValue:
    return VectorValue.single(context.symbols, arguments.scalar(args, 0))


def time(context: CallContext, args: list[Value]) -> ScalarValue:
    return ScalarValue(values=arguments.seconds(context.grid))


def timestamp(context: CallContext, args: list[Value]) -> VectorValue:
    """Of a computed vector: every sample has the time of its step. Of a selector the executor knows the samples' own times."""
    operand = arguments.vector(args, 0)
    times = arguments.seconds(context.grid)
    return operand.with_values(np.repeat(times[np.newaxis], len(operand), axis=0))


def start_timestamp(context: CallContext, args: list[Value]) -> VectorValue:
    """Of a computed vector: 0, the start of no counter is known. Of a selector the executor knows the samples' own start times."""
    operand = arguments.vector(args, 0)
    return operand.with_values(np.zeros(operand.block.values.shape))


def pi(context: CallContext, args: list[Value]) -> ScalarValue:
    return ScalarValue(values=np.full(context.grid.count, math.pi))


def of_query(milliseconds: Callable[[QueryWindow], int]) -> Evaluator:
    """`start()`, `end()`, `range()`, `step()`: seconds of the whole query, the same at every step."""

    def evaluate(context: CallContext, args: list[Value]) -> ScalarValue:
        return ScalarValue(values=np.full(context.grid.count, milliseconds(context.window) / 1000.0))

    return evaluate


EVALUATORS: dict[str, Evaluator] = {
    "scalar": scalar,
    "vector": vector,
    "time": time,
    "timestamp": timestamp,
    "start_timestamp": start_timestamp,
    "pi": pi,
    "start": of_query(lambda window: window.start_ms),
    "end": of_query(lambda window: window.end_ms),
    "range": of_query(lambda window: window.range_ms),
    "step": of_query(lambda window: window.step_ms),
}
