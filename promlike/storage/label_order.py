"""The order in which Prometheus sorts series: pair by pair, name before value, a series before those that continue it."""

import numpy as np
from numpy.typing import NDArray

from promlike.model.blocks import Int64
from promlike.model.frame import Symbols


def label_order(codes: NDArray[np.int32], symbols: Symbols) -> Int64:
    """The permutation int64[S] that sorts the rows of `codes int32[S,L]` (columns sorted by label name, 0: absent) by their labels.

    Ranks of the columns are packed into as few integer keys as fit, because sorting by one key is several times faster than by many.
    """
    series, width = codes.shape
    present = codes != 0
    keys: list[Int64] = []
    packed = np.zeros(series, np.int64)
    room = 1
    continues = np.zeros(series, np.bool_)
    ranks: list[tuple[Int64, int]] = []
    for column in range(width - 1, -1, -1):
        ranks.append(_ranks(codes[:, column], present[:, column], continues, symbols))
        continues |= present[:, column]
    for rank, distinct in reversed(ranks):
        if distinct == 1:
            continue
        if room > 2**62 // distinct:
            keys.append(packed)
            packed, room = np.zeros(series, np.int64), 1
        packed = packed * distinct + rank
        room *= distinct
    keys.append(packed)
    return np.argsort(packed, kind="stable") if len(keys) == 1 else np.lexsort(keys[::-1])


def _ranks(codes: NDArray[np.int32], present: NDArray[np.bool_], continues: NDArray[np.bool_], symbols: Symbols) -> tuple[Int64, int]:
    """Ranks of one column and how many there may be.

    At the first column where two series differ, one that lacks the label goes first when it has no further labels (`continues` false), as
    it is then the beginning of the other; else it goes last, as its next label has a greater name.
    """
    first = codes[0] if len(codes) else 0
    if (codes == first).all() and (first or not continues.any() or continues.all()):
        return np.zeros(len(codes), np.int64), 1
    values, rows = np.unique(codes, return_inverse=True)
    texts = [symbols.text(value) for value in values.tolist()]
    order = sorted(range(len(texts)), key=texts.__getitem__)
    rank = np.empty(len(texts), np.int64)
    rank[order] = np.arange(1, len(texts) + 1)
    out = rank[rows]
    out[~present] = np.where(continues[~present], len(texts) + 1, 0)
    return out, len(texts) + 2
