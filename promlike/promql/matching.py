"""Vector matching: which series of two vectors meet, and what labels the results get.

The sides are called "many" and "one" after group_left/group_right; in one-to-one matching the left side is "many". Axis letters: S series,
T steps, G matching groups, P pairs of series. A pair of rows that meet is computed as one row of the result; because a series may be there
at some steps only, one row can belong to several pairs, which are never present together.
"""

from dataclasses import dataclass

import numpy as np

from promlike.errors import QueryError
from promlike.model.blocks import Bool, Int32, Int64, StepBlock
from promlike.model.frame import LabelFrame, group_rows, match_rows
from promlike.model.labels import format_labels
from promlike.promql import ast
from promlike.promql.execution import Execution
from promlike.promql.kernels import match
from promlike.promql.names import NAME_LABELS, drop_name, unique
from promlike.promql.sets import present_groups, signature
from promlike.promql.vector import VectorValue

NOT_ONE_TO_ONE = "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
NOT_UNIQUE = "multiple matches for labels: grouping labels must ensure unique matches"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Side:
    """One operand: its series, and the matching group of each, `groups int32[S]`."""

    value: VectorValue
    groups: Int32

    def __len__(self) -> int:
        return len(self.groups)

    def has_several(self) -> bool:
        """Is there a group with more than one series?"""
        return len(self.groups) > 0 and int(np.bincount(self.groups).max()) > 1


def vector_matching(run: Execution, node: ast.Binary, op: int, left: VectorValue, right: VectorValue) -> VectorValue:
    """`left op right` for arithmetic and comparison operators (`op` of kernels.match). Raise QueryError where the matching is ambiguous."""
    matching = node.matching or ast.Matching()
    swapped = matching.card is ast.Card.ONE_TO_MANY
    left_groups, right_groups, count = match_rows(signature(left.labels, matching), signature(right.labels, matching))
    sides = [_Side(value=left, groups=left_groups), _Side(value=right, groups=right_groups)]
    many, one = reversed(sides) if swapped else sides
    fill_many, fill_one = matching.fill_left, matching.fill_right
    if swapped:
        fill_many, fill_one = fill_one, fill_many
    if one.has_several():
        _check_one_side(one, many, matching, "left" if swapped else "right", fill_many is not None)
        one = _merge_one_side(one, matching)
    many, one = _filled(many, one, matching, count, fill_many), _filled(one, many, matching, count, fill_one)
    many_rows, one_rows = _pairs(many.groups, one.groups, count)
    mode = match.ARITHMETIC if op < match.EQL else match.TRUTH if node.bool_modifier else match.FILTER_LEFT
    lhs, rhs = ((one, one_rows), (many, many_rows)) if swapped else ((many, many_rows), (one, one_rows))
    block = pairwise(run, op, mode, lhs[0].value.block, lhs[1], rhs[0].value.block, rhs[1])
    labels = _result_labels(many.value.labels.take(many_rows), one, one_rows, matching, drops_name=op < match.EQL)
    groups = many.groups[many_rows]
    if matching.card is ast.Card.ONE_TO_ONE:
        met = many.value.block.present[many_rows] & one.value.block.present[one_rows] if mode == match.FILTER_LEFT else block.present
        _check_one_to_one(groups, met)
    else:
        _check_unique(labels, groups, block)
    kept = None if many.value.drop_name is None or op < match.EQL else many.value.drop_name[many_rows]
    result = unique(VectorValue(labels=labels, block=block, drop_name=kept))
    return drop_name(result, delayed=run.features.promql_delayed_name_removal) if node.bool_modifier else result


def pairwise(run: Execution, op: int, mode: int, left: StepBlock, left_rows: Int64, right: StepBlock, right_rows: Int64) -> StepBlock:
    """`op` (of kernels.match, in one of its modes) on P pairs of rows: `left_rows`, `right_rows int64[P]` into the two blocks; P rows."""
    values, present = run.allocate(len(left_rows), left.values.shape[1])

    def part(low: int, high: int) -> None:
        match.binary_rows(
            op, mode, left.values, left.present, left_rows, right.values, right.present, right_rows, low, high, values, present
        )

    run.map_rows(part, len(left_rows), values.size)
    return StepBlock(values=values, present=present)


def _pairs(many: Int32, one: Int32, count: int) -> tuple[Int64, Int64]:
    """All pairs of rows of one group, in the order of the "many" rows: int64[P], int64[P]. `many int32[S]`, `one int32[S]`: groups."""
    sizes = np.bincount(one, minlength=count)
    if len(one) == 0 or sizes.max() <= 1:
        row_of = np.full(count, -1, np.int64)
        row_of[one] = np.arange(len(one))
        partner = row_of[many]
        rows = np.nonzero(partner >= 0)[0]
        return rows, partner[rows]
    order = np.argsort(one, kind="stable")
    starts = np.cumsum(sizes) - sizes
    repeats = sizes[many]
    rows = np.repeat(np.arange(len(many)), repeats)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    return rows, order[starts[many[rows]] + within]


def _check_one_side(one: _Side, many: _Side, matching: ast.Matching, side: str, fills_many: bool) -> None:
    """Raise QueryError when two series of the "one" side share a group at a step where the operation has anything to do."""
    present = one.value.block.present
    if not fills_many:
        present = present & many.value.block.present.any(axis=0)
    step = _first_overlap(present, one.groups)
    if step is None:
        return
    rows = np.nonzero(present[:, step])[0]
    groups = one.groups[rows]
    later = next(i for i in range(1, len(rows)) if groups[i] in groups[:i])
    pair = rows[[int(np.nonzero(groups == groups[later])[0][0]), later]]
    first, second = sorted(one.value.labels.labels_of(int(row)) for row in pair)
    group = signature(one.value.labels.take(pair[:1]), matching).labels_of(0)
    raise QueryError(
        f"found duplicate series for the match group {format_labels(group)} on the {side} hand-side of the operation: "
        f"[{format_labels(first)}, {format_labels(second)}];many-to-many matching not allowed: matching labels must be unique on one side"
    )


def _first_overlap(present: Bool, groups: Int32) -> int | None:
    """The first step at which two rows of one group are present."""
    found = np.zeros((int(groups.max()) + 1, present.shape[1]), np.bool_)
    step = match.union_rows(np.ascontiguousarray(present), groups, found)
    return None if step < 0 else step


def _merge_one_side(one: _Side, matching: ast.Matching) -> _Side:
    """Join the series of a group, which are never present together, where they give the results the same labels."""
    included = one.value.labels.keep(matching.include).codes
    keys, first = group_rows(np.ascontiguousarray(np.column_stack((one.groups, included))))
    if len(first) == len(one):
        return one
    steps = one.value.block.values.shape[1]
    values, present = np.empty((len(first), steps)), np.zeros((len(first), steps), np.bool_)
    match.union_rows(one.value.block.present, keys, present)
    match.merge_rows(one.value.block.values, one.value.block.present, keys, values)
    block = StepBlock(values=values, present=present)
    marked = None if one.value.drop_name is None else one.value.drop_name[first]
    value = VectorValue(labels=one.value.labels.take(first), block=block, drop_name=marked)
    return _Side(value=value, groups=one.groups[first])


def _filled(side: _Side, other: _Side, matching: ast.Matching, count: int, fill: float | None) -> _Side:
    """The side and, for each group of the other side, a series of the fill value at the steps where only the other side is present."""
    if fill is None or len(other) == 0:
        return side
    groups, at = np.unique(other.groups, return_index=True)
    mine = present_groups(side.value.block.present, side.groups, count)[groups]
    theirs = present_groups(other.value.block.present, other.groups, count)[groups]
    labels = signature(other.value.labels.take(at), matching)
    block = StepBlock(
        values=np.concatenate((side.value.block.values, np.full(mine.shape, fill))),
        present=np.concatenate((side.value.block.present, theirs & ~mine)),
    )
    marks = side.value.drop_name
    value = VectorValue(
        labels=LabelFrame.concat([side.value.labels, labels]),
        block=block,
        drop_name=None if marks is None else np.concatenate((marks, np.zeros(len(groups), np.bool_))),
    )
    return _Side(value=value, groups=np.concatenate((side.groups, groups.astype(np.int32))))


def _result_labels(many: LabelFrame, one: _Side, one_rows: Int64, matching: ast.Matching, *, drops_name: bool) -> LabelFrame:
    """The labels of P results, from the "many" series of each pair (P rows) and what is included of the "one" series."""
    labels = many.drop(NAME_LABELS) if drops_name else many
    if matching.card is ast.Card.ONE_TO_ONE:
        labels = labels.keep(matching.labels) if matching.on else labels.drop(matching.labels)
    for name in matching.include:
        labels = labels.with_column(name, one.value.labels.column(name)[one_rows])
    return labels


def _check_one_to_one(groups: Int32, met: Bool) -> None:
    """Raise QueryError when a group (`groups int32[P]`) has two pairs that met (`met bool[P,T]`) at a step, whatever came out of them."""
    if len(groups) and int(np.bincount(groups).max()) > 1 and _first_overlap(met, groups) is not None:
        raise QueryError(NOT_ONE_TO_ONE)


def _check_unique(labels: LabelFrame, groups: Int32, block: StepBlock) -> None:
    """Raise QueryError when a group (`groups int32[P]`) has two results with the same labels at a step."""
    if len(groups) == 0:
        return
    keys, first = group_rows(np.ascontiguousarray(np.column_stack((groups, labels.codes))))
    if len(first) < len(groups) and _first_overlap(block.present, keys) is not None:
        raise QueryError(NOT_UNIQUE)
