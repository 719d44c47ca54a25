"""Classic histograms: quantiles and fractions from cumulative buckets.

Axis letters: R bucket series, G histograms, B buckets of one histogram, T steps.
"""

import math

import numpy as np

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Bool, Float64, Int64


@inlined
def _almost_equal(a: float, b: float) -> bool:
    """Equal up to a relative difference of 1e-12; both are not NaN and differ."""
    smallest_normal = 2.2250738585072014e-308
    total = abs(a) + abs(b)
    difference = abs(a - b)
    if a == 0 or b == 0 or total < smallest_normal:
        return difference < 1e-12 * smallest_normal
    return difference / min(total, 1.7976931348623157e308) < 1e-12


@inlined
def _gather(
    values: Float64, present: Bool, rows: Int64, row_bounds: Float64, lo: int, hi: int, step: int, bounds: Float64, counts: Float64
) -> int:
    """Collect the buckets that have a value at this step, those of equal bound added up; return how many there are."""
    size = 0
    for i in range(lo, hi):
        row = rows[i]
        if not present[row, step]:
            continue
        if size > 0 and bounds[size - 1] == row_bounds[i]:
            counts[size - 1] += values[row, step]
        else:
            bounds[size] = row_bounds[i]
            counts[size] = values[row, step]
            size += 1
    return size


@inlined
def _make_monotonic(bounds: Float64, counts: Float64, size: int) -> tuple[float, float, float]:
    """Raise counts that are below their predecessor; return the lowest and highest bound and the greatest difference of those that were
    so by more than rounding (the difference is 0 when there is none).
    """
    low = 0.0
    high = 0.0
    difference = 0.0
    previous = counts[0]
    for i in range(1, size):
        count = counts[i]
        if count == previous or (math.isnan(count) and math.isnan(previous)) or _almost_equal(previous, count):
            counts[i] = previous
        elif count < previous:
            if difference == 0.0:
                low = bounds[i]
            high = bounds[i]
            difference = max(difference, previous - count)
            counts[i] = previous
        else:
            previous = count
    return low, high, difference


@inlined
def _quantile(q: float, bounds: Float64, counts: Float64, size: int) -> float:
    """The q-quantile of monotonic buckets, q in [0, 1], linear inside a bucket; the lowest starts at 0 when its bound is positive."""
    if size < 2:
        return math.nan
    observations: float = counts[size - 1]
    if observations == 0:
        return math.nan
    rank = q * observations
    low = 0
    high = size - 1
    while low < high:
        middle = (low + high) >> 1
        if counts[middle] >= rank:
            high = middle
        else:
            low = middle + 1
    if low == size - 1 or (low == 0 and bounds[0] <= 0):
        edge: float = bounds[min(low, size - 2)]
        return edge
    start: float = 0.0
    count: float = counts[low]
    if low > 0:
        start = bounds[low - 1]
        count -= counts[low - 1]
        rank -= counts[low - 1]
    end: float = bounds[low]
    return start + (end - start) * (rank / count)


@inlined
def _rank(bound: float, bounds: Float64, counts: Float64, size: int) -> float:
    """How many observations are at most `bound`, linear inside a bucket.

    The lowest bucket reaches down to -Inf, where nothing can be interpolated: all of it counts as lying below the bound.
    """
    below: float = 0.0
    total: float = counts[size - 1]
    for i in range(size):
        start: float = bounds[i - 1] if i > 0 else -math.inf
        if start >= bound:
            return min(below, total)
        if bounds[i] > bound:
            inside: float = counts[i]
            if not math.isinf(start):
                inside = below + (counts[i] - below) * (bound - start) / (bounds[i] - start)
            return min(inside, total)
        below = counts[i]
    return total


@inlined
def _fraction(lower: float, upper: float, bounds: Float64, counts: Float64, size: int) -> float:
    count: float = counts[size - 1]
    if count == 0 or math.isnan(lower) or math.isnan(upper):
        return math.nan
    if lower >= upper:
        return 0.0
    return (_rank(upper, bounds, counts, size) - _rank(lower, bounds, counts, size)) / count


@kernel("(f8[:,::1], b1[:,::1], i8[::1], f8[::1], i8[::1], f8[::1], f8[::1], b1, f8[:,::1], b1[:,::1], f8[:,::1])")
def classic_histogram(
    values: Float64,
    present: Bool,
    rows: Int64,
    row_bounds: Float64,
    offsets: Int64,
    first: Float64,
    second: Float64,
    fraction: bool,
    out: Float64,
    out_present: Bool,
    forced: Float64,
) -> None:
    """The quantile `first[k]`, or with `fraction` the share of observations between `first[k]` and `second[k]` (float64[T]).

    `values`, `present` [R,T]; histogram g consists of rows[offsets[g]:offsets[g+1]], sorted by `row_bounds` (upper bounds, same order as
    `rows`). Results in `out`, `out_present` [G,T]. `forced float64[G,6]` (zeroed) tells of histograms whose counts had to be made
    monotonic: at how many steps, the first and the last of these, the lowest and highest bound changed, the greatest difference.
    """
    longest = 0
    for g in range(out.shape[0]):
        longest = max(longest, offsets[g + 1] - offsets[g])
    bounds = np.empty(longest)
    counts = np.empty(longest)
    for g in range(out.shape[0]):
        for k in range(out.shape[1]):
            size = _gather(values, present, rows, row_bounds, offsets[g], offsets[g + 1], k, bounds, counts)
            if size == 0:
                continue
            out_present[g, k] = True
            a = first[k]
            if fraction:
                out[g, k] = _fraction(a, second[k], bounds, counts, size) if bounds[size - 1] == math.inf else math.nan
            elif math.isnan(a):
                out[g, k] = math.nan
            elif a < 0 or a > 1:
                out[g, k] = -math.inf if a < 0 else math.inf
            elif bounds[size - 1] != math.inf:
                out[g, k] = math.nan
            else:
                lowest, highest, difference = _make_monotonic(bounds, counts, size)
                if difference > 0.0:
                    if forced[g, 0] == 0.0:
                        forced[g, 1] = k
                        forced[g, 3] = lowest
                        forced[g, 4] = highest
                    forced[g, 0] += 1.0
                    forced[g, 2] = k
                    forced[g, 3] = min(forced[g, 3], lowest)
                    forced[g, 4] = max(forced[g, 4], highest)
                    forced[g, 5] = max(forced[g, 5], difference)
                out[g, k] = _quantile(a, bounds, counts, size)
