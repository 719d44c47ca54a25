"""Sliding windows over raw samples: what the `*_over_time` functions compute.

Axis letters: S series, T steps, N samples. Step k looks at the samples in (ends_ms[k] - range_ms, ends_ms[k]];
`ends_ms int64[T]` never falls. Results go to `out float64[S,T]` and `present bool[S,T]`, which the caller hands over zeroed.
"""

import math
from enum import IntEnum

import numpy as np

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Bool, Float64, Int64


class Rollup(IntEnum):
    """What `rollup` computes of each window."""

    SUM = 0
    AVG = 1
    COUNT = 2
    LAST = 3
    FIRST = 4
    PRESENT = 5
    STDVAR = 6
    STDDEV = 7
    TIME_OF_LAST = 8
    TIME_OF_FIRST = 9


class Extreme(IntEnum):
    """What `window_extremes` computes of each window."""

    MIN = 0
    MAX = 1
    TIME_OF_MIN = 2
    TIME_OF_MAX = 3


@inlined
def _add(inc: float, total: float, c: float) -> tuple[float, float]:
    """One step of Kahan summation with Neumaier's improvement."""
    t = total + inc
    if math.isinf(t):
        c = 0.0
    elif abs(total) >= abs(inc):
        c += (total - t) + inc
    else:
        c += (inc - t) + total
    return t, c


@inlined
def _sum(values: Float64, lo: int, hi: int) -> float:
    total = 0.0
    c = 0.0
    for i in range(lo, hi):
        total, c = _add(values[i], total, c)
    if math.isinf(total):
        return total
    return total + c


@inlined
def _avg(values: Float64, lo: int, hi: int) -> float:
    """The mean; a sum that overflows is continued as an incrementally calculated mean."""
    total: float = values[lo]
    mean = 0.0
    c = 0.0
    incremental = False
    for i in range(lo + 1, hi):
        value = values[i]
        if not incremental:
            new_total, new_c = _add(value, total, c)
            if not math.isinf(new_total):
                total, c = new_total, new_c
                continue
            incremental = True
            mean = total / (i - lo)
            c /= i - lo
        count = float(i - lo + 1)
        q = (count - 1) / count
        mean, c = _add(value / count, q * mean, q * c)
    if incremental:
        return mean + c
    count = float(hi - lo)
    return total / count + c / count


@inlined
def _variance(values: Float64, lo: int, hi: int) -> float:
    """Welford's algorithm, both running terms compensated."""
    count = 0.0
    mean = 0.0
    c_mean = 0.0
    aux = 0.0
    c_aux = 0.0
    for i in range(lo, hi):
        count += 1
        delta = values[i] - (mean + c_mean)
        mean, c_mean = _add(delta / count, mean, c_mean)
        aux, c_aux = _add(delta * (values[i] - (mean + c_mean)), aux, c_aux)
    variance: float = (aux + c_aux) / count
    return variance


@inlined
def _of_window(op: int, ts: Int64, values: Float64, lo: int, hi: int) -> float:
    result = 1.0
    if op == 0:
        result = _sum(values, lo, hi)
    elif op == 1:
        result = _avg(values, lo, hi)
    elif op == 2:
        result = float(hi - lo)
    elif op == 3:
        result = values[hi - 1]
    elif op == 4:
        result = values[lo]
    elif op == 6:
        result = _variance(values, lo, hi)
    elif op == 7:
        result = math.sqrt(_variance(values, lo, hi))
    elif op == 8:
        result = ts[hi - 1] / 1000.0
    elif op == 9:
        result = ts[lo] / 1000.0
    return result


@kernel("(i8[::1], f8[::1], i8[::1], i8[::1], i8, i8, f8[:,::1], b1[:,::1])")
def rollup(ts: Int64, values: Float64, offsets: Int64, ends_ms: Int64, range_ms: int, op: int, out: Float64, present: Bool) -> None:
    """Compute `Rollup` op of every window, in Prometheus's order of summation."""
    for s in range(out.shape[0]):
        lo = offsets[s]
        hi = lo
        end = offsets[s + 1]
        for k in range(out.shape[1]):
            window_end = ends_ms[k]
            while hi < end and ts[hi] <= window_end:
                hi += 1
            while lo < hi and ts[lo] <= window_end - range_ms:
                lo += 1
            if lo < hi:
                out[s, k] = _of_window(op, ts, values, lo, hi)
                present[s, k] = True


@kernel("(i8[::1], f8[::1], i8[::1], i8[::1], i8, i8, f8[:,::1], b1[:,::1])")
def window_extremes(
    ts: Int64, values: Float64, offsets: Int64, ends_ms: Int64, range_ms: int, op: int, out: Float64, present: Bool
) -> None:
    """Compute `Extreme` op of every window with a monotonic queue: every sample enters and leaves it once.

    NaN counts only where a window holds nothing else. Of equal extremes the value is that of the first, the time that of the last.
    """
    sign = 1.0 if op % 2 == 1 else -1.0
    of_time = op >= 2
    longest = 0
    for s in range(out.shape[0]):
        longest = max(longest, offsets[s + 1] - offsets[s])
    queue = np.empty(longest, np.int64)
    for s in range(out.shape[0]):
        lo = offsets[s]
        hi = lo
        end = offsets[s + 1]
        head = 0
        tail = 0
        for k in range(out.shape[1]):
            window_end = ends_ms[k]
            while hi < end and ts[hi] <= window_end:
                value = values[hi]
                if value == value:
                    while tail > head:
                        back = values[queue[tail - 1]]
                        if sign * back < sign * value or (of_time and back == value):
                            tail -= 1
                        else:
                            break
                    queue[tail] = hi
                    tail += 1
                hi += 1
            while lo < hi and ts[lo] <= window_end - range_ms:
                lo += 1
            while head < tail and queue[head] < lo:
                head += 1
            if lo < hi:
                best = queue[head] if head < tail else hi - 1
                out[s, k] = ts[best] / 1000.0 if of_time else values[best]
                present[s, k] = True
