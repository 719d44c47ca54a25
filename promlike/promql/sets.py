"""The set operators `and`, `or`, `unless`, at each step on its own."""

from collections.abc import Callable

import numpy as np

from promlike.model.blocks import Bool, Int32, StepBlock
from promlike.model.frame import LabelFrame, match_rows
from promlike.model.labels import METRIC_NAME
from promlike.promql import ast
from promlike.promql.execution import Execution
from promlike.promql.kernels.match import union_rows
from promlike.promql.names import unique
from promlike.promql.vector import VectorValue


def signature(labels: LabelFrame, matching: ast.Matching) -> LabelFrame:
    """The labels that decide which series of both sides meet."""
    return labels.keep(matching.labels) if matching.on else labels.drop((METRIC_NAME, *matching.labels))


def present_groups(present: Bool, groups: Int32, count: int) -> Bool:
    """bool[G,T]: at which steps a group (`groups int32[S]`) has any series."""
    found = np.zeros((count, present.shape[1]), np.bool_)
    union_rows(present, groups, found)
    return found


def _and(run: Execution, node: ast.Binary, left: VectorValue, right: VectorValue) -> VectorValue:
    return _filter(node, left, right, keep=True)


def _unless(run: Execution, node: ast.Binary, left: VectorValue, right: VectorValue) -> VectorValue:
    return _filter(node, left, right, keep=False)


def _filter(node: ast.Binary, left: VectorValue, right: VectorValue, *, keep: bool) -> VectorValue:
    matching = node.matching or ast.Matching()
    ours, theirs, count = match_rows(signature(left.labels, matching), signature(right.labels, matching))
    found = present_groups(right.block.present, theirs, count)[ours]
    return left.with_values(left.block.values, left.block.present & (found if keep else ~found))


def _or(run: Execution, node: ast.Binary, left: VectorValue, right: VectorValue) -> VectorValue:
    matching = node.matching or ast.Matching()
    ours, theirs, count = match_rows(signature(left.labels, matching), signature(right.labels, matching))
    free = right.block.present & ~present_groups(left.block.present, ours, count)[theirs]
    rows = np.nonzero(free.any(axis=1))[0]
    added = right.with_values(right.block.values, free).take(rows)
    values, present = run.allocate(len(left) + len(added), free.shape[1])
    values[: len(left)], values[len(left) :] = left.block.values, added.block.values
    present[: len(left)], present[len(left) :] = left.block.present, added.block.present
    marks = [np.zeros(len(side), np.bool_) if side.drop_name is None else side.drop_name for side in (left, added)]
    both = VectorValue(
        labels=LabelFrame.concat([left.labels, added.labels]),
        block=StepBlock(values=values, present=present),
        drop_name=np.concatenate(marks) if left.drop_name is not None or added.drop_name is not None else None,
    )
    return unique(both)


SET_OPERATIONS: dict[str, Callable[[Execution, ast.Binary, VectorValue, VectorValue], VectorValue]] = {
    "and": _and,
    "or": _or,
    "unless": _unless,
}
