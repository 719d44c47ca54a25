"""Windows and instants over rows of a rollup tier, which hold of each bucket what these need of its samples.

Axis letters: S series, T steps, B rows; windows as in `rollup.py`, with ends and lengths that are multiples of the resolution. What needs
no more than one column of a row (sums, extremes, first and last values) is computed by the kernels of `rollup.py`, as if that column held
samples at the ends of the buckets.
"""

import numpy as np

from promlike.kernel import kernel
from promlike.model.blocks import Bool, Float64, Int32, Int64


@kernel("(i8[::1], i4[::1], i8[::1], f8[::1], i8[::1], f8[::1], f8[::1], i8[::1], i8[::1], i8, f8, b1, b1, f8[:,::1], b1[:,::1])")
def tier_rate(
    ends: Int64,
    counts: Int32,
    first_ms: Int64,
    firsts: Float64,
    last_ms: Int64,
    lasts: Float64,
    resets: Float64,
    offsets: Int64,
    ends_ms: Int64,
    range_ms: int,
    range_seconds: float,
    is_counter: bool,
    is_rate: bool,
    out: Float64,
    present: Bool,
) -> None:
    """`extrapolated_rate` over rows of which none is empty: a counter also falls between the last value of a row and the first of the next.

    Rows in which, or before which, it falls are found once a series; a window then walks only those it contains.
    """
    longest = 0
    for s in range(out.shape[0]):
        longest = max(longest, offsets[s + 1] - offsets[s])
    fallen = np.empty(longest if is_counter else 0, np.int64)
    totals = np.zeros(longest + 1, np.int64)
    for s in range(out.shape[0]):
        begin = offsets[s]
        lo = begin
        hi = begin
        end = offsets[s + 1]
        found = 0
        for i in range(begin, end):
            totals[i - begin + 1] = totals[i - begin] + counts[i]
            if is_counter and (resets[i] != 0 or (i > begin and firsts[i] < lasts[i - 1])):
                fallen[found] = i
                found += 1
        reset = 0
        for k in range(out.shape[1]):
            window_end = ends_ms[k]
            window_start = window_end - range_ms
            while hi < end and ends[hi] <= window_end:
                hi += 1
            while lo < hi and ends[lo] <= window_start:
                lo += 1
            if lo == hi:
                continue
            count = totals[hi - begin] - totals[lo - begin]
            if count < 2:
                continue
            first = firsts[lo]
            last = hi - 1
            result = lasts[last] - first
            while reset < found and fallen[reset] < lo:
                reset += 1
            inside = reset
            while inside < found and fallen[inside] < hi:
                row = fallen[inside]
                if row > lo and firsts[row] < lasts[row - 1]:
                    result += lasts[row - 1]
                if resets[row] != 0:  # else -0 would become 0, if the row before this one lies in no window
                    result += resets[row]
                inside += 1
            sampled = (last_ms[last] - first_ms[lo]) / 1000.0
            average = sampled / (count - 1)
            threshold = average * 1.1
            to_end = (window_end - last_ms[last]) / 1000.0
            if to_end >= threshold:
                to_end = average / 2
            to_start = (first_ms[lo] - window_start) / 1000.0
            if to_start >= threshold:
                to_start = average / 2
            if is_counter and result > 0 and first >= 0:
                to_zero = sampled * (first / result)
                to_start = min(to_start, to_zero)
            factor = (sampled + to_start + to_end) / sampled
            if is_rate:
                factor /= range_seconds
            out[s, k] = result * factor
            present[s, k] = True


@kernel("(i8[::1], i8[::1], b1[::1], f8[::1], i8[::1], i8[::1], i8, i8, i8, f8[:,::1], b1[:,::1])")
def latest_row(
    ends: Int64,
    last_ms: Int64,
    stale: Bool,
    column: Float64,
    offsets: Int64,
    ends_ms: Int64,
    lookback: int,
    low: int,
    high: int,
    out: Float64,
    present: Bool,
) -> None:
    """`select_latest` over rows: for each step the `column float64[B]` of the newest row, unless it ends in a stale marker or its last
    sample is not within lookback. Works on series low..high-1. Writes `out float64[S,T]`, `present bool[S,T]`.
    """
    for series in range(low, high):
        at = offsets[series]
        first = offsets[series]
        last = offsets[series + 1]
        for step in range(len(ends_ms)):
            end = ends_ms[step]
            while at < last and ends[at] <= end:
                at += 1
            chosen = at - 1
            found = chosen >= first and not stale[chosen] and last_ms[chosen] > end - lookback
            out[series, step] = column[chosen] if found else np.nan
            present[series, step] = found
