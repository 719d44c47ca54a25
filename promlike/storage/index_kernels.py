"""Kernels of the series index. The arena holds each series' labels as pairs (name id, value symbol), sorted by name:
those of ref s stand at `arena[2 * starts[s] : 2 * ends[s]]`.
"""

import numpy as np
from numpy.typing import NDArray

from promlike.kernel import kernel
from promlike.model.blocks import Int32, Int64


@kernel("(i4[::1], i8[::1], i8[::1], i4[::1], i4)")
def label_column(arena: Int32, starts: Int64, ends: Int64, refs: Int32, name: int) -> Int32:
    """The value symbol of one label of `refs int32[S]`; 0 where a series does not have it."""
    out = np.zeros(len(refs), np.int32)
    for i in range(len(refs)):
        for pair in range(starts[refs[i]], ends[refs[i]]):
            if arena[2 * pair] == name:
                out[i] = arena[2 * pair + 1]
                break
    return out


@kernel("(i4[::1], i8[::1], i8[::1], i4[::1], u1[::1])")
def mark_names(arena: Int32, starts: Int64, ends: Int64, refs: Int32, used: NDArray[np.uint8]) -> None:
    """Set `used[name id]` for every label name that one of the series has."""
    for i in range(len(refs)):
        for pair in range(starts[refs[i]], ends[refs[i]]):
            used[arena[2 * pair]] = 1


@kernel("(i4[::1], i8[::1], i8[::1], i4[::1], i4[::1], i4)")
def label_codes(arena: Int32, starts: Int64, ends: Int64, refs: Int32, columns: Int32, width: int) -> NDArray[np.int32]:
    """The labels of `refs int32[S]` as value symbols int32[S,L]; label name n stands in column `columns[n]`."""
    out = np.zeros((len(refs), width), np.int32)
    for i in range(len(refs)):
        for pair in range(starts[refs[i]], ends[refs[i]]):
            out[i, columns[arena[2 * pair]]] = arena[2 * pair + 1]
    return out
