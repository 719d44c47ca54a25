"""The `anchored` and `smoothed` modifiers: values at the exact borders of a window instead of extrapolation.

Axis letters and windows as in `rollup.py`. The samples handed in reach `lookback_ms` further to the left than the windows and, when
smoothed, as far to the right.
"""

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Bool, Float64, Int64


@inlined
def _interpolate(ts: Int64, values: Float64, i: int, at_ms: int, is_counter: bool, left: bool) -> float:
    """The value at `at_ms` on the line between samples i and i + 1; a counter's reset between them counts as a start from 0."""
    y1: float = values[i]
    y2: float = values[i + 1]
    if is_counter and y2 < y1:
        if left:
            y1 = 0.0
        else:
            y2 += y1
    return y1 + (y2 - y1) * float(at_ms - ts[i]) / float(ts[i + 1] - ts[i])


@kernel("(i8[::1], f8[::1], i8[::1], i8[::1], i8, i8, f8, b1, b1, b1, f8[:,::1], b1[:,::1])")
def extended_rate(
    ts: Int64,
    values: Float64,
    offsets: Int64,
    ends_ms: Int64,
    range_ms: int,
    lookback_ms: int,
    range_seconds: float,
    smoothed: bool,
    is_counter: bool,
    is_rate: bool,
    out: Float64,
    present: Bool,
) -> None:
    """The difference between the values at both borders of each window, counter resets added back, per second when `is_rate`.

    Anchored: a border's value is that of the last sample at or before it (of the first sample inside when there is none). Smoothed:
    it lies on the line between the samples around the border. Nothing where all samples are before, or all are after, the window.
    """
    for s in range(out.shape[0]):
        begin = offsets[s]
        end = offsets[s + 1]
        lo = begin
        hi = begin
        for k in range(out.shape[1]):
            window_end = ends_ms[k]
            window_start = window_end - range_ms
            while hi < end and ts[hi] <= window_end:
                hi += 1
            while lo < hi and ts[lo] <= window_start:
                lo += 1
            first = lo
            if lo > begin and ts[lo - 1] > window_start - lookback_ms:
                first = lo - 1
            last = hi - 1
            if smoothed and (last < begin or ts[last] < window_end) and hi < end and ts[hi] <= window_end + lookback_ms:
                last = hi
            if last < first or ts[last] <= window_start or ts[first] > window_end:
                continue
            left = values[first]
            if smoothed and ts[first] < window_start:
                left = _interpolate(ts, values, first, window_start, is_counter, True)
            right = values[last]
            if smoothed and ts[last] > window_end:
                right = _interpolate(ts, values, last - 1, window_end, is_counter, False)
            result = right - left
            if is_counter:
                correction = 0.0
                previous = left
                for i in range(lo, hi):
                    if ts[i] == window_end:
                        break
                    if values[i] < previous:
                        correction += previous
                    previous = values[i]
                if right < previous:
                    correction += previous
                result += correction
            if is_rate:
                result /= range_seconds
            out[s, k] = result
            present[s, k] = True
