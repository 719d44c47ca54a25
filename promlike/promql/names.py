"""Dropping metric names, now or at the end, series that have the same labels afterwards, and the order of labels."""

from typing import TypeVar

import numpy as np

from promlike.errors import QueryError
from promlike.model.blocks import Bool, Int32, Int64, StepBlock
from promlike.model.frame import LabelFrame, group_rows
from promlike.model.labels import METRIC_NAME
from promlike.promql.kernels.match import merge_rows, union_rows
from promlike.promql.vector import RangeValue, VectorValue

NAME_LABELS = (METRIC_NAME, "__type__", "__unit__")
"""What goes when the metric name goes."""

SAME_LABELS = "vector cannot contain metrics with the same labelset"

Series = TypeVar("Series", VectorValue, RangeValue)


def drop_name(value: VectorValue, *, delayed: bool) -> VectorValue:
    """The vector without metric names: with `delayed` the series are only marked."""
    if delayed:
        return VectorValue(labels=value.labels, block=value.block, drop_name=np.ones(len(value), np.bool_))
    without = value.labels.drop(NAME_LABELS)
    named = value.labels.keep(NAME_LABELS).codes
    bare = VectorValue(labels=without, block=value.block)
    return bare if without is value.labels or _same_everywhere(named) else unique(bare)


def refuse_same_without_name(value: VectorValue) -> None:
    """Raise QueryError where two series will have the same labels without their names, even when they are never present together.

    Prometheus is that strict with what functions make of range vectors, and only there.
    """
    if not _same_everywhere(value.labels.keep(NAME_LABELS).codes):
        present: Bool = np.any(value.block.present, axis=1)
        shown = value.labels.take(present).drop(NAME_LABELS)
        if len(shown.groups()[1]) < len(shown):
            raise QueryError(SAME_LABELS)


def resolve(value: VectorValue) -> VectorValue:
    """Drop the names of the marked series, at the end of a query."""
    labels = resolved_labels(value.labels, value.drop_name)
    if labels is value.labels:
        return value if value.drop_name is None else unique(VectorValue(labels=labels, block=value.block))
    return unique(VectorValue(labels=labels, block=value.block))


def resolved_labels(labels: LabelFrame, marked: Bool | None) -> LabelFrame:
    """The frame with the names of the series in `marked bool[S]` dropped; the same object when none is."""
    if marked is None or not marked.any():
        return labels
    if marked.all():
        return labels.drop(NAME_LABELS)
    codes = labels.codes.copy()
    for column, name in enumerate(labels.names):
        if name in NAME_LABELS:
            codes[marked, column] = 0
    return LabelFrame(names=labels.names, codes=codes, symbols=labels.symbols)


def unique(value: VectorValue, message: str = SAME_LABELS) -> VectorValue:
    """Merge series with the same labels into the first of them. Raise QueryError where two are present at one step."""
    codes = value.labels.codes
    if value.drop_name is not None and not _same_everywhere(value.drop_name.reshape(-1, 1)):
        codes = np.column_stack((codes, value.drop_name.astype(np.int32)))
    groups, first = group_rows(np.ascontiguousarray(codes))
    if len(first) == len(value):
        return value
    block = merge(value.block, groups, len(first), message)
    marked = None if value.drop_name is None else value.drop_name[first]
    return VectorValue(labels=value.labels.take(first), block=block, drop_name=marked)


def merge(block: StepBlock, groups: Int32, count: int, message: str) -> StepBlock:
    """The rows of each group (`groups int32[S]`, 0..count-1) as one. Raise QueryError where two are present at one step."""
    steps = block.values.shape[1]
    present = np.zeros((count, steps), np.bool_)
    if union_rows(block.present, groups, present) >= 0:
        raise QueryError(message)
    values = np.empty((count, steps))
    merge_rows(block.values, block.present, groups, values)
    return StepBlock(values=values, present=present)


def _same_everywhere(codes: Int32 | Bool) -> bool:
    """Are all rows of this [S,L] array equal?"""
    return len(codes) == 0 or bool((codes == codes[0]).all())


def label_order(labels: LabelFrame) -> Int64:
    """int64[S]: the rows sorted as Prometheus sorts label sets: pair by pair, name before value; the shorter set first.

    Where a series lacks a label of a column it comes after those that have it, because its next label has a later name; unless it has no
    more labels at all, then it comes first.
    """
    ends = np.ones(len(labels), np.bool_)
    keys = []
    for column in range(len(labels.names) - 1, -1, -1):
        codes = labels.codes[:, column]
        distinct, inverse = np.unique(codes, return_inverse=True)
        texts = labels.symbols.texts(distinct)
        ranks = np.empty(len(texts), np.int64)
        ranks[sorted(range(len(texts)), key=texts.__getitem__)] = np.arange(1, len(texts) + 1)
        absent = codes == 0
        keys.append(np.where(absent, np.where(ends, 0, len(texts) + 1), ranks[inverse]))
        ends &= absent
    return np.lexsort(keys) if keys else np.arange(len(labels), dtype=np.int64)
