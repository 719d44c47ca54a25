"""Picking samples for steps, and turning steps back into samples. Axis letters: S series, T steps, N samples.

`ends int64[T]` never fall: the times samples are looked for at. All kernels work on series low..high-1, so that threads can share a block.
"""

import numpy as np

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Bool, Float64, Int64

Bits = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]


@inlined
def _after(ts: Int64, first: int, last: int, time: int) -> int:
    """The first of the samples first..last-1 with ts > time, or last."""
    while first < last:
        middle = (first + last) // 2
        if ts[middle] <= time:
            first = middle + 1
        else:
            last = middle
    return first


@kernel("(i8[::1], u8[::1], f8[::1], i8[::1], i8[::1], i8, i8, i8, f8[:,::1], b1[:,::1])")
def select_latest(
    ts: Int64, bits: Bits, column: Float64, offsets: Int64, ends: Int64, lookback: int, low: int, high: int, out: Float64, present: Bool
) -> None:
    """For each step the latest sample in (end - lookback, end]; none where that sample is a stale marker.

    `bits uint64[N]` are the values' bits, `column float64[N]` what is taken of the chosen sample (the values, or their times).
    Writes `out float64[S,T]`, `present bool[S,T]`.
    """
    stale = np.uint64(0x7FF0000000000002)
    steps = len(ends)
    for series in range(low, high):
        last = offsets[series + 1]
        at = _after(ts, offsets[series], last, ends[0])
        first = offsets[series]
        for step in range(steps):
            end = ends[step]
            while at < last and ts[at] <= end:
                at += 1
            chosen = at - 1
            if chosen >= first and ts[chosen] > end - lookback and bits[chosen] != stale:
                out[series, step] = column[chosen]
                present[series, step] = True
            else:
                out[series, step] = np.nan
                present[series, step] = False


@kernel("(i8[::1], f8[::1], i8[::1], i8[::1], i8, i8, i8, f8[:,::1], b1[:,::1])")
def select_smoothed(
    ts: Int64, values: Float64, offsets: Int64, ends: Int64, lookback: int, low: int, high: int, out: Float64, present: Bool
) -> None:
    """For each step the value on the straight line between the samples around it, both within lookback; without a later one the earlier.

    Stale markers have been removed. Writes `out float64[S,T]`, `present bool[S,T]`.
    """
    for series in range(low, high):
        first = offsets[series]
        last = offsets[series + 1]
        for step in range(len(ends)):
            end = ends[step]
            at = _after(ts, first, last, end)
            before = at - 1
            if before < first or ts[before] <= end - lookback:
                out[series, step] = np.nan
                present[series, step] = False
                continue
            value = values[before]
            if ts[before] != end and at < last and ts[at] <= end + lookback:
                value += (values[at] - value) * float(end - ts[before]) / float(ts[at] - ts[before])
            out[series, step] = value
            present[series, step] = True


@kernel("(u8[::1],)")
def has_stale(bits: Bits) -> bool:
    """Is there a stale marker among values with these bits (uint64[N])?"""
    stale = np.uint64(0x7FF0000000000002)
    found = False
    for i in range(len(bits)):
        found |= bits[i] == stale
    return found


@kernel("(f8[:,::1], b1[:,::1], i8[::1], i8[::1], i8, i8, i8[::1], f8[::1])")
def steps_to_samples(
    values: Float64, present: Bool, times: Int64, offsets: Int64, low: int, high: int, out_ts: Int64, out_values: Float64
) -> None:
    """Write what is present in `values float64[S,T]` as samples at `times int64[T]`; `offsets int64[S+1]` count them."""
    for series in range(low, high):
        at = offsets[series]
        for step in range(len(times)):
            if present[series, step]:
                out_ts[at] = times[step]
                out_values[at] = values[series, step]
                at += 1


@kernel("(i8[::1], i8[::1], i8[::1], i8, i8[:,::1])")
def count_windows(ts: Int64, offsets: Int64, ends: Int64, width: int, counts: Int64) -> None:
    """Add to `counts int64[2,T]` how many samples of all series each window (end - width, end] holds, and how many no window before it."""
    for series in range(len(offsets) - 1):
        last = offsets[series + 1]
        oldest = _after(ts, offsets[series], last, ends[0] - width)
        at = oldest
        for step in range(len(ends)):
            seen = at
            while at < last and ts[at] <= ends[step]:
                at += 1
            while oldest < at and ts[oldest] <= ends[step] - width:
                oldest += 1
            counts[0, step] += at - oldest
            counts[1, step] += at - max(seen, oldest)
