"""Aggregations that keep some of the series as they are: topk, bottomk, limitk, limit_ratio. Axis letters: S series, T steps."""

from collections.abc import Callable

import numpy as np
import xxhash

from promlike.errors import QueryError
from promlike.model.blocks import Bool, Float64, Int64, StepBlock
from promlike.model.frame import LabelFrame
from promlike.promql import ast
from promlike.promql.annotations import Scope
from promlike.promql.calls.number_text import format_g
from promlike.promql.execution import Execution
from promlike.promql.grouping import Grouping
from promlike.promql.kernels.aggregate import has_ties, select_extreme, select_first
from promlike.promql.vector import VectorValue

INT64_LIMIT = 2.0**63


def pick(run: Execution, node: ast.Aggregate, param: Float64, operand: Callable[[], VectorValue]) -> VectorValue:
    """topk, bottomk and limitk; `param float64[T]` says how many series of each group stay at each step."""
    _check_counts(param)
    is_constant = node.param is None or run.shape.is_invariant(node.param)
    if param.max() < 1:
        if not is_constant:
            run.annotations.lose()
        return VectorValue.empty(run.symbols, len(param))
    with run.annotations.beneath(Scope.STEPS if is_constant else Scope.OTHER):
        vector = operand()
    grouping = Grouping.of(vector.labels, node)
    order, starts = grouping.members()
    limits = np.clip(param, 0, len(vector)).astype(np.int64)
    chosen, position = np.zeros(vector.block.present.shape, np.bool_), np.zeros(len(vector), np.int64)
    sign = -1.0 if node.op == "bottomk" else 1.0
    block = vector.block

    def part(low: int, high: int) -> None:
        if node.op == "limitk":
            select_first(block.present, order, starts, limits, low, high, chosen)
        else:
            select_extreme(block.values, block.present, order, starts, limits, sign, low, high, chosen, position)

    run.map_rows(part, len(limits), block.values.size)
    if node.op != "limitk" and run.repeatable:
        run.repeatable = not has_ties(block.values, block.present, chosen, order, starts, sign)
    picked = VectorValue(labels=vector.labels, block=StepBlock(values=block.values, present=chosen), drop_name=vector.drop_name)
    if len(param) == 1 and node.op != "limitk":
        return picked.take(_ranked(block.values[:, 0] * sign, chosen[:, 0], grouping, position))
    return picked.take(_by_group(chosen, grouping))


def _by_group(chosen: Bool, grouping: Grouping) -> Int64:
    """The rows chosen at any step, group by group."""
    rows = np.nonzero(chosen.any(axis=1))[0]
    return rows[np.argsort(grouping.groups[rows], kind="stable")]


def _ranked(values: Float64, chosen: Bool, grouping: Grouping, position: Int64) -> Int64:
    """The chosen rows of one step as they are answered: group by group, falling `values float64[S]`, NaN last, ties as in the heap."""
    rows = np.nonzero(chosen)[0]
    keys = values[rows]
    missing = np.isnan(keys)
    order = np.lexsort((position[rows], np.where(missing, 0.0, -keys), missing, grouping.groups[rows]))
    return rows[order]


def _check_counts(param: Float64) -> None:
    if np.isnan(param).any():
        raise QueryError("Parameter value is NaN")
    low, high = float(param.min()), float(param.max())
    if low <= -INT64_LIMIT:
        raise QueryError(f"Scalar value {format_g(low)} underflows int64")
    if high >= INT64_LIMIT:
        raise QueryError(f"Scalar value {format_g(high)} overflows int64")


def limit_ratio(run: Execution, node: ast.Aggregate, param: Float64, operand: Callable[[], VectorValue]) -> VectorValue:
    """Keep the share `param float64[T]` of all series, the same ones every time; a negative share keeps those a positive one would not."""
    if np.isnan(param).any():
        raise QueryError("Ratio value is NaN")
    low, high = float(param.min()), float(param.max())
    if low == high == 0:
        return VectorValue.empty(run.symbols, len(param))
    span = node.param.span if node.param is not None else node.span
    for worst, bound in ((high, 1.0), (low, -1.0)):
        if abs(worst) > 1 and worst * bound > 0:
            run.annotations.warn(f"ratio value should be between -1 and 1, got {format_g(worst)}, capping to {format_g(bound)}", span)
    vector = operand()
    ratios = np.clip(param, -1.0, 1.0)
    places = (label_hashes(vector.labels) / float(2**64 - 1)).reshape(-1, 1)
    chosen = np.where(ratios >= 0, places < ratios, places >= 1.0 + ratios) & vector.block.present
    return vector.with_values(vector.block.values, chosen).take(_by_group(chosen, Grouping.of(vector.labels, node)))


def label_hashes(labels: LabelFrame) -> Float64:
    """float64[S]: Prometheus's hash of each series, xxHash64 of its labels, each name and value after its length.

    A Python loop over series, 1 µs each; every name and value is encoded once.
    """
    pieces = []
    for column, name in enumerate(labels.names):
        distinct, inverse = np.unique(labels.codes[:, column], return_inverse=True)
        texts = [sized(name) + sized(text) if text else b"" for text in labels.symbols.texts(distinct)]
        pieces.append([texts[at] for at in inverse.tolist()])
    rows = zip(*pieces, strict=True) if pieces else ((),) * len(labels)
    return np.fromiter((xxhash.xxh64_intdigest(b"".join(row)) for row in rows), np.float64, len(labels))


def sized(text: str) -> bytes:
    """Length and bytes of a string, as Prometheus lays out labels in memory."""
    encoded = text.encode("utf-8", "surrogateescape")
    size = len(encoded)
    return (bytes((size,)) if size < 255 else b"\xff" + size.to_bytes(3, "little")) + encoded
