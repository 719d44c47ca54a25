"""Aggregation of the rows of each group, step by step, in row order. Axis letters: S series, T steps, G groups.

Kernels that go row by row take a range of steps, so that threads share the steps and every sum still follows the order of the rows; those
that need all values of a group at once take a range of groups, with `order int64[S]` the rows sorted by group and `starts int64[G+1]`.
"""

import numpy as np

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Bool, Float64, Int32, Int64

MIN, MAX, COUNT, GROUP = range(4)


@kernel("(f8[:,::1], b1[:,::1], i4[::1], b1, i8, i8, f8[:,::1], b1[:,::1])")
def aggregate_sum(
    values: Float64, present: Bool, groups: Int32, average: bool, low: int, high: int, out: Float64, out_present: Bool
) -> None:
    """Sums (or means) of each group with Neumaier's compensation, into `out float64[G,T]`, `out_present bool[G,T]` (zeroed).

    A mean whose sum would overflow goes on incrementally, as Prometheus does.
    """
    width = high - low
    lost = np.zeros((out.shape[0], width))
    counts = np.zeros((out.shape[0], width))
    incremental = np.zeros((out.shape[0], width), np.bool_)
    for row in range(values.shape[0]):
        group = groups[row]
        for at in range(width):
            step = low + at
            if not present[row, step]:
                continue
            value = values[row, step]
            counts[group, at] += 1.0
            if not out_present[group, step]:
                out_present[group, step] = True
                out[group, step] = value
                continue
            total = out[group, step]
            count = counts[group, at]
            c = lost[group, at]
            if average and not incremental[group, at] and not np.isinf(total + value):
                pass
            elif average:
                if not incremental[group, at]:
                    incremental[group, at] = True
                    total /= count - 1.0
                    c /= count - 1.0
                    out[group, step] = total
                    lost[group, at] = c
                if np.isinf(total) and ((np.isinf(value) and (total > 0) == (value > 0)) or np.isfinite(value)):
                    continue
                q = (count - 1.0) / count
                value /= count
                total *= q
                c *= q
            added = total + value
            if np.isinf(added):
                c = 0.0
            elif abs(total) >= abs(value):
                c += (total - added) + value
            else:
                c += (value - added) + total
            out[group, step] = added
            lost[group, at] = c
    for group in range(out.shape[0]):
        for at in range(width):
            step = low + at
            if average and not incremental[group, at]:
                out[group, step] = out[group, step] / counts[group, at] + lost[group, at] / counts[group, at]
            else:
                out[group, step] += lost[group, at]


@kernel("(i8, f8[:,::1], b1[:,::1], i4[::1], i8, i8, f8[:,::1], b1[:,::1])")
def aggregate_extreme(op: int, values: Float64, present: Bool, groups: Int32, low: int, high: int, out: Float64, out_present: Bool) -> None:
    """min, max, count or group (always 1) of each group into `out float64[G,T]`, `out_present bool[G,T]` (zeroed)."""
    for row in range(values.shape[0]):
        group = groups[row]
        for step in range(low, high):
            if not present[row, step]:
                continue
            value = values[row, step]
            if not out_present[group, step]:
                out_present[group, step] = True
                out[group, step] = 1.0 if op >= COUNT else value
            elif op == COUNT:
                out[group, step] += 1.0
            elif op != GROUP:
                best = out[group, step]
                if np.isnan(best) or (value < best if op == MIN else value > best):
                    out[group, step] = value


@kernel("(f8[:,::1], b1[:,::1], i4[::1], b1, i8, i8, f8[:,::1], b1[:,::1])")
def aggregate_variance(
    values: Float64, present: Bool, groups: Int32, root: bool, low: int, high: int, out: Float64, out_present: Bool
) -> None:
    """Population variance (its root: standard deviation) by Welford's method into `out float64[G,T]`, `out_present bool[G,T]` (zeroed)."""
    width = high - low
    means = np.zeros((out.shape[0], width))
    counts = np.zeros((out.shape[0], width))
    for row in range(values.shape[0]):
        group = groups[row]
        for at in range(width):
            step = low + at
            if not present[row, step]:
                continue
            value = values[row, step]
            counts[group, at] += 1.0
            if not out_present[group, step]:
                out_present[group, step] = True
                means[group, at] = value
                out[group, step] = 0.0 if np.isfinite(value) else np.nan
                continue
            delta = value - means[group, at]
            means[group, at] += delta / counts[group, at]
            out[group, step] += delta * (value - means[group, at])
    for group in range(out.shape[0]):
        for at in range(width):
            variance = out[group, low + at] / counts[group, at]
            out[group, low + at] = np.sqrt(variance) if root else variance


@inlined
def _below(a: float, b: float) -> bool:
    """Order of values in heaps and quantiles: NaN is the smallest."""
    return np.isnan(a) or a < b


@inlined
def _sift(heap: Float64, rows: Int64, at: int, size: int) -> None:
    """Go's container/heap down(): restore the order below `at`."""
    while True:
        child = 2 * at + 1
        if child >= size:
            return
        if child + 1 < size and _below(heap[child + 1], heap[child]):
            child += 1
        if not _below(heap[child], heap[at]):
            return
        heap[at], heap[child] = heap[child], heap[at]
        rows[at], rows[child] = rows[child], rows[at]
        at = child


@kernel("(f8[:,::1], b1[:,::1], i8[::1], i8[::1], f8[::1], i8, i8, f8[:,::1], b1[:,::1])")
def aggregate_quantile(
    values: Float64, present: Bool, order: Int64, starts: Int64, quantiles: Float64, low: int, high: int, out: Float64, out_present: Bool
) -> None:
    """The quantile (`quantiles float64[T]`, one a step) of each group in low..high-1 into `out float64[G,T]`, `out_present bool[G,T]`."""
    largest = 0
    for group in range(low, high):
        largest = max(largest, starts[group + 1] - starts[group])
    buffer = np.empty(largest)
    rows = np.empty(largest, np.int64)
    for group in range(low, high):
        for step in range(values.shape[1]):
            size = 0
            for at in range(starts[group], starts[group + 1]):
                if present[order[at], step]:
                    buffer[size] = values[order[at], step]
                    size += 1
            out_present[group, step] = size > 0
            q = quantiles[step]
            if size == 0 or np.isnan(q):
                out[group, step] = np.nan
            elif q < 0.0 or q > 1.0:
                out[group, step] = -np.inf if q < 0.0 else np.inf
            else:
                _heap_sort_down(buffer, rows, size)
                rank = q * (size - 1)
                lower = int(np.floor(rank))
                upper = min(size - 1, lower + 1)
                weight = rank - lower
                # The buffer falls, so position i from the bottom stands at size - 1 - i.
                out[group, step] = buffer[size - 1 - lower] * (1.0 - weight) + buffer[size - 1 - upper] * weight


@inlined
def _heap_sort_down(heap: Float64, rows: Int64, size: int) -> None:
    """Sort the first values so that they fall, NaN at the end."""
    for at in range(size // 2 - 1, -1, -1):
        _sift(heap, rows, at, size)
    for end in range(size - 1, 0, -1):
        heap[0], heap[end] = heap[end], heap[0]
        _sift(heap, rows, 0, end)


@kernel("(f8[:,::1], b1[:,::1], i8[::1], i8[::1], i8[::1], f8, i8, i8, b1[:,::1], i8[::1])")
def select_extreme(
    values: Float64,
    present: Bool,
    order: Int64,
    starts: Int64,
    limits: Int64,
    sign: float,
    low: int,
    high: int,
    chosen: Bool,
    position: Int64,
) -> None:
    """The `limits[t]` greatest (sign 1) or smallest (sign -1) values a step of each group in low..high-1: sets `chosen bool[S,T]` (zeroed).

    Ties fall as in Prometheus, whose heap is imitated move by move. `position int64[S]`: where each chosen row stands in the last one.
    """
    size = 0
    for step in range(len(limits)):
        size = max(size, limits[step])
    heap = np.empty(size)
    rows = np.empty(size, np.int64)
    for group in range(low, high):
        for step in range(len(limits)):
            limit = limits[step]
            if limit < 1:
                continue
            size = 0
            for at in range(starts[group], starts[group + 1]):
                row = order[at]
                if not present[row, step]:
                    continue
                value = values[row, step] * sign
                if size < limit:
                    heap[size] = value
                    rows[size] = row
                    child = size
                    size += 1
                    while child > 0:
                        parent = (child - 1) // 2
                        if not _below(heap[child], heap[parent]):
                            break
                        heap[child], heap[parent] = heap[parent], heap[child]
                        rows[child], rows[parent] = rows[parent], rows[child]
                        child = parent
                elif heap[0] < value or (np.isnan(heap[0]) and not np.isnan(value)):
                    heap[0] = value
                    rows[0] = row
                    _sift(heap, rows, 0, size)
            for at in range(size):
                chosen[rows[at], step] = True
                position[rows[at]] = at


@kernel("(b1[:,::1], i8[::1], i8[::1], i8[::1], i8, i8, b1[:,::1])")
def select_first(present: Bool, order: Int64, starts: Int64, limits: Int64, low: int, high: int, chosen: Bool) -> None:
    """The first `limits[t]` present rows a step of each group in low..high-1: sets `chosen bool[S,T]` (zeroed)."""
    taken = np.empty(len(limits), np.int64)
    for group in range(low, high):
        taken[:] = 0
        for at in range(starts[group], starts[group + 1]):
            row = order[at]
            for step in range(len(limits)):
                if present[row, step] and taken[step] < limits[step]:
                    chosen[row, step] = True
                    taken[step] += 1
