"""Functions of each value by itself: rounding, clamping, logarithms, trigonometry."""

import math
from collections.abc import Callable

import numpy as np

from promlike.model.blocks import Float64
from promlike.promql.calls import arguments
from promlike.promql.context import CallContext, Evaluator
from promlike.promql.vector import ScalarValue, Value, VectorValue

Function = Callable[[Float64], Float64]

LOG10_E = 0.4342944819032518
"""The double nearest to 1 / ln 10; dividing by the rounded ln 10 gives its neighbour."""


def mapped(function: Function) -> Evaluator:
    """Apply a NumPy function to every value of the first argument."""

    def evaluate(context: CallContext, args: list[Value]) -> VectorValue:
        return apply(context, arguments.vector(args, 0), function)

    return evaluate


def apply(context: CallContext, vector: VectorValue, function: Function) -> VectorValue:
    """The vector with `function(values[S,T])` for its values, computed in chunks of series."""
    values = vector.block.values
    out = np.empty(values.shape)

    def chunk(low: int, high: int) -> None:
        # Entered here because the setting does not reach the threads of a pool.
        with np.errstate(all="ignore"):
            out[low:high] = function(values[low:high])

    context.map_series(chunk, len(values))
    return vector.with_values(out)


def go_max(a: Float64, b: Float64) -> Float64:
    """The greater values of two arrays that broadcast, as Go's math.Max: an infinity beats NaN, +0 is above -0."""
    result = np.where((a == 0) & (b == 0), a + b, np.maximum(a, b))
    return np.where((a == np.inf) | (b == np.inf), np.inf, result)


def go_min(a: Float64, b: Float64) -> Float64:
    """The lesser values, as Go's math.Min."""
    return -go_max(-a, -b)


def log2(values: Float64) -> Float64:
    """As Go computes it, from the logarithm of the fraction, so that powers of two are exact."""
    fraction, exponent = np.frexp(values)
    result: Float64 = np.where(fraction == 0.5, exponent - 1.0, np.log(fraction) * (1 / math.log(2)) + exponent)
    return result


def log10(values: Float64) -> Float64:
    """As Go computes it, from the natural logarithm."""
    return np.log(values) * LOG10_E


def sgn(values: Float64) -> Float64:
    """-1, 0 or 1 by sign; NaN and zeros stay what they are."""
    return np.where(values < 0, -1.0, np.where(values > 0, 1.0, values))


def clamp(context: CallContext, args: list[Value]) -> VectorValue:
    """Nothing at steps at which the minimum is above the maximum."""
    vector = arguments.vector(args, 0)
    least, most = arguments.scalar(args, 1), arguments.scalar(args, 2)
    result = apply(context, vector, lambda values: go_max(least, go_min(most, values)))
    if not (most < least).any():
        return result
    return vector.with_values(result.block.values, vector.block.present & ~(most < least))


def clamp_min(context: CallContext, args: list[Value]) -> VectorValue:
    least = arguments.scalar(args, 1)
    return apply(context, arguments.vector(args, 0), lambda values: go_max(least, values))


def clamp_max(context: CallContext, args: list[Value]) -> VectorValue:
    most = arguments.scalar(args, 1)
    return apply(context, arguments.vector(args, 0), lambda values: go_min(most, values))


def round_to(context: CallContext, args: list[Value]) -> VectorValue:
    """To the nearest multiple, halves up. Goes through the inverse, as Prometheus does, since 1 / 0.1 is exact where 0.1 is not."""
    inverse = 1.0 / arguments.scalar(args, 1) if len(args) > 1 else np.ones(1)
    return apply(context, arguments.vector(args, 0), lambda values: np.floor(values * inverse + 0.5) / inverse)


def max_of(context: CallContext, args: list[Value]) -> ScalarValue:
    return ScalarValue(values=go_max(arguments.scalar(args, 0), arguments.scalar(args, 1)))


def min_of(context: CallContext, args: list[Value]) -> ScalarValue:
    return ScalarValue(values=go_min(arguments.scalar(args, 0), arguments.scalar(args, 1)))


EVALUATORS: dict[str, Evaluator] = {
    "abs": mapped(np.abs),
    "ceil": mapped(np.ceil),
    "floor": mapped(np.floor),
    "exp": mapped(np.exp),
    "ln": mapped(np.log),
    "log2": mapped(log2),
    "log10": mapped(log10),
    "sqrt": mapped(np.sqrt),
    "sgn": mapped(sgn),
    "sin": mapped(np.sin),
    "cos": mapped(np.cos),
    "tan": mapped(np.tan),
    "asin": mapped(np.arcsin),
    "acos": mapped(np.arccos),
    "atan": mapped(np.arctan),
    "sinh": mapped(np.sinh),
    "cosh": mapped(np.cosh),
    "tanh": mapped(np.tanh),
    "asinh": mapped(np.arcsinh),
    "acosh": mapped(np.arccosh),
    "atanh": mapped(np.arctanh),
    "rad": mapped(lambda values: values * math.pi / 180),
    "deg": mapped(lambda values: values * 180 / math.pi),
    "round": round_to,
    "clamp": clamp,
    "clamp_min": clamp_min,
    "clamp_max": clamp_max,
    "max_of": max_of,
    "min_of": min_of,
}
