"""`sort`, `sort_desc`, `sort_by_label`, `sort_by_label_desc`. Order exists at one step only: of range queries the API sorts by labels."""

import re
from functools import cmp_to_key
from itertools import pairwise, zip_longest

import numpy as np

from promlike.model.blocks import Int64
from promlike.model.frame import LabelFrame
from promlike.promql.calls import arguments
from promlike.promql.context import CallContext, Evaluator
from promlike.promql.vector import Value, VectorValue


def by_value(*, descending: bool) -> Evaluator:
    """NaN comes last in both directions."""

    def evaluate(context: CallContext, args: list[Value]) -> VectorValue:
        vector = arguments.vector(args, 0)
        _warn_of_range(context)
        if context.grid.count != 1:
            return vector
        values = vector.block.values[:, 0]
        return _ordered(vector, np.argsort(-values if descending else values, kind="stable"))

    return evaluate


def by_label(*, descending: bool) -> Evaluator:
    """By the given labels in natural order (numbers inside by their value), then by all labels."""

    def evaluate(context: CallContext, args: list[Value]) -> VectorValue:
        vector = arguments.vector(args, 0)
        _warn_of_range(context)
        if context.grid.count != 1 or len(vector) < 2:
            return vector
        keys = [_all_labels_rank(vector.labels), *(_natural_rank(vector.labels, name) for name in reversed(arguments.strings(args, 1)))]
        order = np.lexsort(keys)
        return _ordered(vector, order[::-1] if descending else order)

    return evaluate


def _ordered(vector: VectorValue, order: Int64) -> VectorValue:
    return vector.take(np.ascontiguousarray(order))


def _warn_of_range(context: CallContext) -> None:
    if context.window.range_ms > 0:
        context.warn("sort is ineffective for range queries since results are always ordered by labels", context.node)


def _all_labels_rank(labels: LabelFrame) -> Int64:
    """int64[S]: the place of each series among all, sorted by labels. Walks every label; the result of an instant query is small."""
    pairs = labels.all_labels()
    order = sorted(range(len(pairs)), key=pairs.__getitem__)
    rank = np.empty(len(pairs), np.int64)
    rank[order] = np.arange(len(pairs))
    return rank


def _natural_rank(labels: LabelFrame, name: str) -> Int64:
    """int64[S]: the place of each series' value of a label among the distinct values, in natural order."""
    distinct, inverse = np.unique(labels.column(name), return_inverse=True)
    chunks = [_CHUNK.findall(text) for text in labels.symbols.texts(distinct)]
    natural = cmp_to_key(_compare)
    order = sorted(range(len(chunks)), key=lambda i: natural(chunks[i]))
    rank = np.zeros(len(distinct), np.int64)
    for place, (before, after) in enumerate(pairwise(order), start=1):
        # Texts that only differ in how a number is written, as 1 and 01, share a place.
        rank[after] = rank[before] if _compare(chunks[before], chunks[after]) == 0 else place
    places: Int64 = rank[inverse]
    return places


_CHUNK = re.compile(r"[0-9]+|[^0-9]+")


def _compare(left: list[str], right: list[str]) -> int:
    """Natural order of texts cut into runs of digits and of other characters: two numbers by value, anything else as text."""
    for a, b in zip_longest(left, right, fillvalue=""):
        if a.isdigit() and b.isdigit():
            difference = int(a) - int(b)
            if difference:
                return difference
        elif a != b:
            return -1 if a < b else 1
    return 0


EVALUATORS: dict[str, Evaluator] = {
    "sort": by_value(descending=False),
    "sort_desc": by_value(descending=True),
    "sort_by_label": by_label(descending=False),
    "sort_by_label_desc": by_label(descending=True),
}
