"""Typed access to the arguments of a call. The parser has checked the types; a mismatch here is a bug, so it raises TypeError."""

import numpy as np

from promlike.model.blocks import Bool, Float64, Int64, StepGrid
from promlike.promql.vector import RangeValue, ScalarValue, StringValue, TierValue, Value, VectorValue


def vector(args: list[Value], index: int) -> VectorValue:
    value = args[index]
    if not isinstance(value, VectorValue):
        raise TypeError(f"argument {index} is a {type(value).__name__}, not an instant vector")
    return value


def range_vector(args: list[Value], index: int) -> RangeValue:
    value = args[index]
    if not isinstance(value, RangeValue):
        raise TypeError(f"argument {index} is a {type(value).__name__}, not a range vector")
    return value


def tier(args: list[Value], index: int) -> TierValue:
    value = args[index]
    if not isinstance(value, TierValue):
        raise TypeError(f"argument {index} is a {type(value).__name__}, not a range vector of a rollup")
    return value


def scalar(args: list[Value], index: int) -> Float64:
    """float64[T], contiguous and writable, as kernels want it."""
    value = args[index]
    if not isinstance(value, ScalarValue):
        raise TypeError(f"argument {index} is a {type(value).__name__}, not a scalar")
    return np.require(value.values, np.float64, ["C", "W"])


def string(args: list[Value], index: int) -> str:
    value = args[index]
    if not isinstance(value, StringValue):
        raise TypeError(f"argument {index} is a {type(value).__name__}, not a string")
    return value.value


def strings(args: list[Value], start: int) -> list[str]:
    """All arguments from `start` on."""
    return [string(args, index) for index in range(start, len(args))]


def new_block(series: int, steps: int) -> tuple[Float64, Bool]:
    """A zeroed float64[S,T] and bool[S,T] for a kernel to fill."""
    return np.zeros((series, steps)), np.zeros((series, steps), np.bool_)


def seconds(grid: StepGrid) -> Float64:
    """float64[T]: the evaluation times."""
    times: Float64 = grid.times_ms() / 1000.0
    return times


NO_STARTS: Int64 = np.empty(0, np.int64)
"""Handed to kernels in place of start timestamps where there are none or they are not to be used."""
