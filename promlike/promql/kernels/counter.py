"""Counters: `rate`, `increase`, `delta`, `irate`, `idelta`, `resets`, `changes`.

Axis letters and windows as in `rollup.py`. `start_ts int64[N]` holds the start timestamp of each sample (0: unknown) or is empty when
start timestamps are not to be used.
"""

import math
from enum import IntEnum

import numpy as np

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Bool, Float64, Int64


class Events(IntEnum):
    """What `count_events` counts between neighbouring samples."""

    CHANGES = 0
    RESETS = 1


@inlined
def _restarted(ts: Int64, start_ts: Int64, i: int) -> bool:
    """Does the start timestamp of sample i say that the counter began anew after sample i - 1?

    A start equal to the previous sample's time is a delta point, unless that sample's own start is unknown or not before it: then it
    is OpenTelemetry's mark of a cumulative series whose start nobody knows.
    """
    start: int = start_ts[i]
    before: int = ts[i - 1]
    start_before: int = start_ts[i - 1]
    if start == 0 or start > ts[i] or start < before:
        return False
    return start > before or (start_before != 0 and start_before < before)


@kernel("(i8[::1], f8[::1], i8[::1], i8[::1], i8[::1], i8, f8, b1, b1, f8[:,::1], b1[:,::1])")
def extrapolated_rate(
    ts: Int64,
    values: Float64,
    offsets: Int64,
    start_ts: Int64,
    ends_ms: Int64,
    range_ms: int,
    range_seconds: float,
    is_counter: bool,
    is_rate: bool,
    out: Float64,
    present: Bool,
) -> None:
    """The difference over each window, extrapolated to its borders, with counter resets added back (`is_counter`), per second (`is_rate`).

    The positions of resets are found once a series; a window then walks only those it contains, in order, so the bits agree with
    a walk over all its samples. A counter whose start lies inside the window begins there with 0 and is not extrapolated to the left.
    """
    has_starts = len(start_ts) > 0
    longest = 0
    for s in range(out.shape[0]):
        longest = max(longest, offsets[s + 1] - offsets[s])
    resets = np.empty(longest if is_counter else 0, np.int64)
    for s in range(out.shape[0]):
        lo = offsets[s]
        hi = lo
        end = offsets[s + 1]
        count = 0
        if is_counter:
            for i in range(lo + 1, end):
                if values[i] < values[i - 1] or (has_starts and _restarted(ts, start_ts, i)):
                    resets[count] = i
                    count += 1
        reset = 0
        for k in range(out.shape[1]):
            window_end = ends_ms[k]
            window_start = window_end - range_ms
            while hi < end and ts[hi] <= window_end:
                hi += 1
            while lo < hi and ts[lo] <= window_start:
                lo += 1
            if lo == hi:
                continue
            first = values[lo]
            last = hi - 1
            from_start = has_starts and is_counter and start_ts[lo] != 0 and window_start < start_ts[lo] < ts[lo]
            if lo == last and not from_start:
                continue
            result = values[last] if from_start else values[last] - first
            while reset < count and resets[reset] <= lo:
                reset += 1
            inside = reset
            while inside < count and resets[inside] < hi:
                result += values[resets[inside] - 1]
                inside += 1
            sampled = (ts[last] - ts[lo]) / 1000.0
            average = sampled / (last - lo) if last > lo else 0.0
            threshold = average * 1.1
            to_end = (window_end - ts[last]) / 1000.0
            if to_end >= threshold:
                to_end = average / 2
            if from_start:
                sampled = (ts[last] - start_ts[lo]) / 1000.0
                extrapolated = sampled
            else:
                to_start = (ts[lo] - window_start) / 1000.0
                if to_start >= threshold:
                    to_start = average / 2
                if is_counter and result > 0 and first >= 0:
                    to_zero = sampled * (first / result)
                    to_start = min(to_start, to_zero)
                extrapolated = sampled + to_start
            factor = (extrapolated + to_end) / sampled
            if is_rate:
                factor /= range_seconds
            out[s, k] = result * factor
            present[s, k] = True


@kernel("(i8[::1], f8[::1], i8[::1], i8[::1], i8[::1], i8, b1, f8[:,::1], b1[:,::1])")
def instant_rate(
    ts: Int64,
    values: Float64,
    offsets: Int64,
    start_ts: Int64,
    ends_ms: Int64,
    range_ms: int,
    is_rate: bool,
    out: Float64,
    present: Bool,
) -> None:
    """The difference of the last two samples of each window; per second and aware of resets when `is_rate`."""
    has_starts = len(start_ts) > 0
    for s in range(out.shape[0]):
        begin = offsets[s]
        hi = begin
        end = offsets[s + 1]
        for k in range(out.shape[1]):
            window_end = ends_ms[k]
            while hi < end and ts[hi] <= window_end:
                hi += 1
            if hi - begin < 2 or ts[hi - 2] <= window_end - range_ms:
                continue
            last = values[hi - 1]
            previous = values[hi - 2]
            result = last - previous
            if is_rate:
                if last < previous or (has_starts and _restarted(ts, start_ts, hi - 1)):
                    result = last
                result /= (ts[hi - 1] - ts[hi - 2]) / 1000.0
            out[s, k] = result
            present[s, k] = True


@kernel("(i8[::1], f8[::1], i8[::1], i8[::1], i8[::1], i8, i8, i8, f8[:,::1], b1[:,::1])")
def count_events(
    ts: Int64,
    values: Float64,
    offsets: Int64,
    start_ts: Int64,
    ends_ms: Int64,
    range_ms: int,
    anchor_ms: int,
    op: int,
    out: Float64,
    present: Bool,
) -> None:
    """Count `Events` op between neighbouring samples of each window, from running totals.

    `anchor_ms` >= 0 (`anchored`): the last sample at or before the window, not older than that before its start, counts as its first.
    """
    has_starts = len(start_ts) > 0
    longest = 0
    for s in range(out.shape[0]):
        longest = max(longest, offsets[s + 1] - offsets[s])
    totals = np.zeros(longest + 1, np.int64)
    for s in range(out.shape[0]):
        begin = offsets[s]
        lo = begin
        hi = begin
        end = offsets[s + 1]
        for i in range(begin + 1, end):
            value = values[i]
            previous = values[i - 1]
            if op == 0:
                event = value != previous and not (math.isnan(value) and math.isnan(previous))
            else:
                event = value < previous or (has_starts and _restarted(ts, start_ts, i))
            totals[i - begin] = totals[i - begin - 1] + event
        for k in range(out.shape[1]):
            window_end = ends_ms[k]
            window_start = window_end - range_ms
            while hi < end and ts[hi] <= window_end:
                hi += 1
            while lo < hi and ts[lo] <= window_start:
                lo += 1
            if lo == hi:
                continue
            first = lo
            if anchor_ms >= 0 and lo > begin and ts[lo - 1] > window_start - anchor_ms:
                first = lo - 1
            out[s, k] = totals[hi - 1 - begin] - totals[first - begin]
            present[s, k] = True
