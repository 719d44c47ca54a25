"""What an `anchored` or `smoothed` range holds when it is answered as it is: values at both of its borders and the samples between them."""

import numpy as np

from promlike.model.blocks import Float64, Int64, SampleBlock
from promlike.promql.vector import RangeValue


def with_boundaries(value: RangeValue) -> SampleBlock:
    """The samples of the only window of each series, the first at the very start of the window and the last at its end.

    A Python loop over series, a few µs each: such an answer is read by people.
    """
    samples = value.samples.whole()
    offsets = samples.offsets.tolist()
    parts = [
        _bounded(value, samples.ts_ms[offsets[row] : offsets[row + 1]], samples.values[offsets[row] : offsets[row + 1]])
        for row in range(len(value))
    ]
    sizes = [len(ts_ms) for ts_ms, _ in parts]
    return SampleBlock(
        ts_ms=np.concatenate([np.empty(0, np.int64), *(ts_ms for ts_ms, _ in parts)]),
        values=np.concatenate([np.empty(0), *(values for _, values in parts)]),
        offsets=np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64))),
    )


def _bounded(value: RangeValue, ts_ms: Int64, values: Float64) -> tuple[Int64, Float64]:
    """Times and values of the window of a series with these samples; none where all of them are before or after it."""
    end = int(value.ends_ms[0])
    start = end - value.range_ms
    reach = value.lookback_ms if value.smoothed else 0
    near = (ts_ms > start - value.lookback_ms) & (ts_ms <= end + reach)
    ts_ms, values = ts_ms[near], values[near]
    last = len(ts_ms) - 1
    if last < 0 or ts_ms[0] > end or ts_ms[last] <= start:
        return np.empty(0, np.int64), np.empty(0)
    first = max(0, int(np.searchsorted(ts_ms[:last], start, side="right")) - 1)
    left, right = float(values[first]), float(values[min(last, int(np.searchsorted(ts_ms, end, side="right")) - 1)])
    if value.smoothed:
        left, right = (_on_line(ts_ms, values, at) for at in (start, end))
    inside = (ts_ms > start) & (ts_ms < end)
    return np.concatenate(([start], ts_ms[inside], [end])), np.concatenate(([left], values[inside], [right]))


def _on_line(ts_ms: Int64, values: Float64, at: int) -> float:
    """The value at a time on the line between the samples around it; before the first and after the last sample theirs."""
    behind = int(np.searchsorted(ts_ms, at, side="left"))
    if behind == len(ts_ms):
        return float(values[-1])
    if behind == 0 or ts_ms[behind] == at:
        return float(values[behind])
    before, after = float(values[behind - 1]), float(values[behind])
    share = float(at - ts_ms[behind - 1])
    return before + (after - before) * share / float(ts_ms[behind] - ts_ms[behind - 1])
