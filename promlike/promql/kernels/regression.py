"""Least squares and smoothing over windows: `deriv`, `predict_linear`, `double_exponential_smoothing`.

Axis letters and windows as in `rollup.py`. A window needs at least two samples.
"""

import math

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Bool, Float64, Int64


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
def _fit(ts: Int64, values: Float64, lo: int, hi: int, origin_ms: int) -> tuple[float, float]:
    """Slope per second, and value at `origin_ms`, of the line through samples lo..hi-1. Equal values give exactly themselves."""
    first = values[lo]
    constant = True
    sum_x = c_x = sum_y = c_y = sum_xy = c_xy = sum_x2 = c_x2 = 0.0
    for i in range(lo, hi):
        y = values[i]
        if y != first:
            constant = False
        x = (ts[i] - origin_ms) / 1e3
        sum_x, c_x = _add(x, sum_x, c_x)
        sum_y, c_y = _add(y, sum_y, c_y)
        sum_xy, c_xy = _add(x * y, sum_xy, c_xy)
        sum_x2, c_x2 = _add(x * x, sum_x2, c_x2)
    if constant and first == first:
        if math.isinf(first):
            return math.nan, math.nan
        return 0.0, first
    n = float(hi - lo)
    sum_x += c_x
    sum_y += c_y
    sum_xy += c_xy
    sum_x2 += c_x2
    slope = (sum_xy - sum_x * sum_y / n) / (sum_x2 - sum_x * sum_x / n)
    return slope, sum_y / n - slope * sum_x / n


@kernel("(i8[::1], f8[::1], i8[::1], i8[::1], i8, i8[::1], f8[::1], f8[:,::1], b1[:,::1])")
def linear_regression(
    ts: Int64,
    values: Float64,
    offsets: Int64,
    ends_ms: Int64,
    range_ms: int,
    times_ms: Int64,
    ahead: Float64,
    out: Float64,
    present: Bool,
) -> None:
    """The slope of each window (`ahead` empty), or the value `ahead[k]` seconds after the time of step k (`ahead float64[T]`).

    Step k is at `times_ms[k]` (int64[T]), which differs from the window's end under `offset` and `@`.
    """
    predict = len(ahead) > 0
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
            if hi - lo < 2:
                continue
            # The slope does not depend on the origin in theory; in practice a near one keeps it accurate.
            origin = times_ms[k] if predict else ts[lo]
            slope, intercept = _fit(ts, values, lo, hi, origin)
            out[s, k] = slope * ahead[k] + intercept if predict else slope
            present[s, k] = True


@kernel("(i8[::1], f8[::1], i8[::1], i8[::1], i8, f8[::1], f8[::1], f8[:,::1], b1[:,::1])")
def double_exponential(
    ts: Int64,
    values: Float64,
    offsets: Int64,
    ends_ms: Int64,
    range_ms: int,
    smoothing: Float64,
    trend: Float64,
    out: Float64,
    present: Bool,
) -> None:
    """Holt's double exponential smoothing of each window; the factors are float64[T], each in (0, 1)."""
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
            if hi - lo < 2:
                continue
            sf = smoothing[k]
            tf = trend[k]
            s0 = 0.0
            s1 = values[lo]
            b = values[lo + 1] - values[lo]
            for i in range(lo + 1, hi):
                x = sf * values[i]
                if i > lo + 1:
                    b = tf * (s1 - s0) + (1 - tf) * b
                y = (1 - sf) * (s1 + b)
                s0 = s1
                s1 = x + y
            out[s, k] = s1
            present[s, k] = True
