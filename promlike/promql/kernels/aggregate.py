"""Aggregation of the rows of each group, step by step, in row order. Axis letters: S series, T steps, G groups.

Kernels take a range of steps, so that threads share the steps and every sum still follows the order of the rows. Those that need all values
of a group at once also take `order int64[S]`, the rows sorted by group, and `starts int64[G+1]`.
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


STRIPE = 16
"""Steps that kernels which need all values of a group look at together, so that a row's cache lines are read once, not once a step."""


@inlined
def _below(a: float, b: float) -> bool:
    """Order of values in heaps: NaN is the smallest."""
    return np.isnan(a) or a < b


@inlined
def _select(numbers: Float64, size: int, rank: int) -> float:
    """Move the number of this rank (from 0, rising) to its place, smaller ones before it and greater ones behind; there is no NaN."""
    low = 0
    high = size - 1
    while low < high:
        pivot = numbers[(low + high) >> 1]
        i = low
        j = high
        while i <= j:
            while numbers[i] < pivot:
                i += 1
            while numbers[j] > pivot:
                j -= 1
            if i <= j:
                numbers[i], numbers[j] = numbers[j], numbers[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    return float(numbers[rank])


@inlined
def _quantile(numbers: Float64, size: int, missing: int, q: float) -> float:
    """The quantile of `missing` NaN and so many numbers, NaN counting as the smallest."""
    if np.isnan(q):
        return np.nan
    if q < 0.0 or q > 1.0:
        return -np.inf if q < 0.0 else np.inf
    rank = q * (size + missing - 1)
    lower = int(np.floor(rank))
    weight = rank - lower
    if lower < missing:
        return np.nan
    first = _select(numbers, size, lower - missing)
    second = first
    if lower + 1 < size + missing:
        second = numbers[lower + 1 - missing]
        for at in range(lower + 2 - missing, size):
            second = min(second, numbers[at])
    return first * (1.0 - weight) + second * weight


@kernel("(f8[:,::1], b1[:,::1], i8[::1], i8[::1], f8[::1], i8, i8, f8[:,::1], b1[:,::1])")
def aggregate_quantile(
    values: Float64, present: Bool, order: Int64, starts: Int64, quantiles: Float64, low: int, high: int, out: Float64, out_present: Bool
) -> None:
    """Each group's quantile (`quantiles float64[T]`) at steps low..high-1, into `out float64[G,T]`, `out_present bool[G,T]`."""
    groups = len(starts) - 1
    largest = 0
    for group in range(groups):
        largest = max(largest, starts[group + 1] - starts[group])
    numbers = np.empty((STRIPE, largest))
    sizes = np.empty(STRIPE, np.int64)
    missing = np.empty(STRIPE, np.int64)
    for group in range(groups):
        for begin in range(low, high, STRIPE):
            end = min(begin + STRIPE, high)
            sizes[:] = 0
            missing[:] = 0
            for at in range(starts[group], starts[group + 1]):
                row = order[at]
                for step in range(begin, end):
                    if present[row, step]:
                        value = values[row, step]
                        if np.isnan(value):
                            missing[step - begin] += 1
                        else:
                            numbers[step - begin, sizes[step - begin]] = value
                            sizes[step - begin] += 1
            for step in range(begin, end):
                count = sizes[step - begin]
                out_present[group, step] = count + missing[step - begin] > 0
                if out_present[group, step]:
                    out[group, step] = _quantile(numbers[step - begin], count, missing[step - begin], quantiles[step])


@inlined
def _push(heap: Float64, rows: Int64, size: int, value: float, row: int) -> None:
    """Go's container/heap Push onto the first `size` places."""
    heap[size] = value
    rows[size] = row
    child = size
    while child > 0:
        parent = (child - 1) // 2
        if not _below(heap[child], heap[parent]):
            break
        heap[child], heap[parent] = heap[parent], heap[child]
        rows[child], rows[parent] = rows[parent], rows[child]
        child = parent


@inlined
def _replace(heap: Float64, rows: Int64, size: int, value: float, row: int) -> None:
    """Put another value on top, then Go's container/heap Fix: restore the order below it."""
    heap[0] = value
    rows[0] = row
    at = 0
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
    """The `limits[t]` greatest (sign 1) or smallest (sign -1) values of each group at steps low..high-1: sets `chosen bool[S,T]` (zeroed).

    Ties fall as in Prometheus, whose heap is imitated move by move. `position int64[S]`: where each chosen row stands in the last one.
    """
    largest = 0
    for step in range(low, high):
        largest = max(largest, limits[step])
    heaps = np.empty((STRIPE, largest))
    rows = np.empty((STRIPE, largest), np.int64)
    sizes = np.empty(STRIPE, np.int64)
    for group in range(len(starts) - 1):
        for begin in range(low, high, STRIPE):
            end = min(begin + STRIPE, high)
            sizes[:] = 0
            for at in range(starts[group], starts[group + 1]):
                row = order[at]
                for step in range(begin, end):
                    if not present[row, step]:
                        continue
                    value = values[row, step] * sign
                    heap = heaps[step - begin]
                    size = sizes[step - begin]
                    if size < limits[step]:
                        _push(heap, rows[step - begin], size, value, row)
                        sizes[step - begin] += 1
                    elif size > 0 and (heap[0] < value or (np.isnan(heap[0]) and not np.isnan(value))):
                        _replace(heap, rows[step - begin], size, value, row)
            for step in range(begin, end):
                for at in range(sizes[step - begin]):
                    chosen[rows[step - begin, at], step] = True
                    position[rows[step - begin, at]] = at


@kernel("(f8[:,::1], b1[:,::1], b1[:,::1], i8[::1], i8[::1], f8)")
def has_ties(values: Float64, present: Bool, chosen: Bool, order: Int64, starts: Int64, sign: float) -> bool:
    """Is there a step at which a group has a value outside `chosen bool[S,T]` that is as great (sign 1) or small (-1) as one inside?"""
    steps = present.shape[1]
    least = np.empty(steps)
    any_chosen = np.empty(steps, np.bool_)
    for group in range(len(starts) - 1):
        any_chosen[:] = False
        for at in range(starts[group], starts[group + 1]):
            row = order[at]
            for step in range(steps):
                if chosen[row, step]:
                    value = values[row, step] * sign
                    if not any_chosen[step] or _below(value, least[step]):
                        least[step] = value
                        any_chosen[step] = True
        for at in range(starts[group], starts[group + 1]):
            row = order[at]
            for step in range(steps):
                if not present[row, step] or chosen[row, step] or not any_chosen[step]:
                    continue
                value = values[row, step] * sign
                if not _below(value, least[step]) or (np.isnan(value) and np.isnan(least[step])):
                    return True
    return False


@kernel("(b1[:,::1], i8[::1], i8[::1], i8[::1], i8, i8, b1[:,::1])")
def select_first(present: Bool, order: Int64, starts: Int64, limits: Int64, low: int, high: int, chosen: Bool) -> None:
    """The first `limits[t]` present rows of each group at steps low..high-1: sets `chosen bool[S,T]` (zeroed)."""
    taken = np.empty(len(limits), np.int64)
    for group in range(len(starts) - 1):
        taken[:] = 0
        for at in range(starts[group], starts[group + 1]):
            row = order[at]
            for step in range(low, high):
                if present[row, step] and taken[step] < limits[step]:
                    chosen[row, step] = True
                    taken[step] += 1
