"""Order statistics of windows: `quantile_over_time` and `mad_over_time`.

Axis letters and windows as in `rollup.py`.
"""

import math

import numpy as np

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Bool, Float64, Int64


@inlined
def _position(ordered: Float64, size: int, value: float) -> int:
    """The first place in ordered[:size] whose value is not below `value`."""
    low = 0
    high = size
    while low < high:
        middle = (low + high) >> 1
        if ordered[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@inlined
def _at(ordered: Float64, nans: int, index: int) -> float:
    """Element `index` of the sorted window, in which NaN comes first."""
    return math.nan if index < nans else ordered[index - nans]


@inlined
def _quantile(phi: float, ordered: Float64, nans: int, size: int) -> float:
    """The φ-quantile of `nans` NaN and ordered[:size], interpolated between neighbours."""
    if math.isnan(phi):
        return math.nan
    if phi < 0:
        return -math.inf
    if phi > 1:
        return math.inf
    n = nans + size
    rank = phi * (n - 1)
    lower = max(0, math.floor(rank))
    upper = min(n - 1, lower + 1)
    weight = rank - math.floor(rank)
    return _at(ordered, nans, lower) * (1 - weight) + _at(ordered, nans, upper) * weight


@inlined
def _deviation(ordered: Float64, size: int, median: float, deviations: Float64) -> float:
    """The median of |x - median| over ordered[:size]: both halves are sorted already, so they are merged outwards from the median."""
    right = _position(ordered, size, median)
    left = right - 1
    for i in range(size // 2 + 1):
        below = median - ordered[left] if left >= 0 else math.inf
        above = ordered[right] - median if right < size else math.inf
        if left >= 0 and (right >= size or below <= above):
            deviations[i] = below
            left -= 1
        else:
            deviations[i] = above
            right += 1
    upper: float = deviations[size // 2]
    lower: float = deviations[size // 2 - 1] if size % 2 == 0 else upper
    return lower * 0.5 + upper * 0.5


@inlined
def _mad(ordered: Float64, nans: int, size: int, deviations: Float64) -> float:
    if nans > 0:
        return math.nan
    median = _quantile(0.5, ordered, 0, size)
    if math.isfinite(ordered[size - 1] - ordered[0]):
        return _deviation(ordered, size, median, deviations)
    # Infinities: a deviation is NaN (and comes first) where value and median are infinite alike; the order is lost, so sort again.
    count = 0
    for i in range(size):
        deviation = abs(ordered[i] - median)
        if deviation == deviation:
            deviations[count] = deviation
            count += 1
    deviations[:count].sort()
    return _quantile(0.5, deviations, size - count, count)


FEW = 16
"""So many are sorted one by one."""


@inlined
def _take(values: Float64, lo: int, hi: int, batch: Float64) -> int:
    """Put the numbers of values[lo:hi] into `batch`, sorted; how many there are, NaN left out."""
    size = 0
    for i in range(lo, hi):
        value = values[i]
        if value == value:
            j = size
            size += 1
            if hi - lo <= FEW:
                while j > 0 and batch[j - 1] > value:
                    batch[j] = batch[j - 1]
                    j -= 1
            batch[j] = value
    if hi - lo > FEW:
        batch[:size].sort()
    return size


@inlined
def _without(ordered: Float64, size: int, gone: Float64, count: int) -> None:
    """Close the gaps that gone[:count], sorted, leaves in ordered[:size], which holds each of them."""
    kept = _position(ordered, size, gone[0]) if count else size
    for i in range(kept, size):
        if i - kept < count and ordered[i] == gone[i - kept]:
            continue
        ordered[kept] = ordered[i]
        kept += 1


@inlined
def _with(ordered: Float64, size: int, new: Float64, count: int) -> None:
    """Merge new[:count] into ordered[:size], both sorted, from the end on."""
    rest = count
    i = size
    while rest > 0:
        if i > 0 and ordered[i - 1] > new[rest - 1]:
            i -= 1
            ordered[i + rest] = ordered[i]
        else:
            rest -= 1
            ordered[i + rest] = new[rest]


@kernel("(i8[::1], f8[::1], i8[::1], i8[::1], i8, f8[::1], b1, f8[:,::1], b1[:,::1])")
def window_quantile(
    ts: Int64,
    values: Float64,
    offsets: Int64,
    ends_ms: Int64,
    range_ms: int,
    phi: Float64,
    mad: bool,
    out: Float64,
    present: Bool,
) -> None:
    """The quantile `phi[k]` (float64[T]) of each window, or with `mad` its median absolute deviation (NaN when it holds a NaN).

    The window is kept sorted while it slides: at each step what leaves and what comes is sorted by itself and taken out and in by one walk
    over what changes its place.
    """
    longest = 0
    for s in range(out.shape[0]):
        longest = max(longest, offsets[s + 1] - offsets[s])
    ordered = np.empty(longest + 1)
    batch = np.empty(longest + 1)
    deviations = np.empty(longest + 1 if mad else 1)
    for s in range(out.shape[0]):
        lo = offsets[s]
        hi = lo
        end = offsets[s + 1]
        size = 0
        nans = 0
        for k in range(out.shape[1]):
            window_end = ends_ms[k]
            first = lo
            while lo < end and ts[lo] <= window_end - range_ms:
                lo += 1
            if first < hi and first < lo:
                last = min(lo, hi)
                count = _take(values, first, last, batch)
                _without(ordered, size, batch, count)
                size -= count
                nans -= last - first - count
            hi = max(hi, lo)  # a sample that no window holds is never put in
            first = hi
            while hi < end and ts[hi] <= window_end:
                hi += 1
            if first < hi:
                count = _take(values, first, hi, batch)
                _with(ordered, size, batch, count)
                size += count
                nans += hi - first - count
            if lo < hi:
                out[s, k] = _mad(ordered, nans, size, deviations) if mad else _quantile(phi[k], ordered, nans, size)
                present[s, k] = True
