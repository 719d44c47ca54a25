"""From samples to the rows of a rollup tier. Axis letters: S series, N samples, B rows."""

import math

import numpy as np

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Bool, Float64, Int32, Int64, SampleBlock
from promlike.model.tiers import TierBlock, TierRows

Bits = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]


def roll_up(samples: SampleBlock, resolution_ms: int) -> TierBlock:
    """The rows of all buckets that samples, or stale markers, lie in."""
    offsets = np.zeros(samples.series + 1, np.int64)
    count_buckets(samples.ts_ms, samples.offsets, resolution_ms, offsets)
    rows = TierRows.blank(int(offsets[-1]))
    fill_buckets(
        samples.ts_ms,
        samples.values,
        samples.values.view(np.uint64),
        samples.offsets,
        resolution_ms,
        offsets,
        rows.ends_ms,
        rows.counts,
        rows.sums,
        rows.mins,
        rows.maxs,
        rows.first_ms,
        rows.firsts,
        rows.last_ms,
        rows.lasts,
        rows.resets,
        rows.stale,
    )
    return TierBlock(resolution_ms=resolution_ms, rows=rows, offsets=offsets)


@inlined
def _end_of(ts: int, resolution: int) -> int:
    """The end of the bucket that a time lies in."""
    return -((-ts) // resolution) * resolution


@kernel("(i8[::1], i8[::1], i8, i8[::1])")
def count_buckets(ts: Int64, offsets: Int64, resolution: int, row_offsets: Int64) -> None:
    """Write `row_offsets int64[S+1]`: where the rows of each series begin."""
    for s in range(len(offsets) - 1):
        rows = 0
        end = 0
        for i in range(offsets[s], offsets[s + 1]):
            if rows == 0 or ts[i] > end:
                end = _end_of(ts[i], resolution)
                rows += 1
        row_offsets[s + 1] = row_offsets[s] + rows


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


@kernel(
    "(i8[::1], f8[::1], u8[::1], i8[::1], i8, i8[::1], i8[::1], i4[::1], f8[::1], f8[::1], f8[::1], i8[::1], f8[::1], i8[::1], f8[::1],"
    " f8[::1], b1[::1])"
)
def fill_buckets(
    ts: Int64,
    values: Float64,
    bits: Bits,
    offsets: Int64,
    resolution: int,
    row_offsets: Int64,
    ends: Int64,
    counts: Int32,
    sums: Float64,
    mins: Float64,
    maxs: Float64,
    first_ms: Int64,
    firsts: Float64,
    last_ms: Int64,
    lasts: Float64,
    resets: Float64,
    stale: Bool,
) -> None:
    """Fill the columns of TierRows, B rows that `count_buckets` counted."""
    stale_bits = np.uint64(0x7FF0000000000002)
    for s in range(len(offsets) - 1):
        i = offsets[s]
        last = offsets[s + 1]
        for row in range(row_offsets[s], row_offsets[s + 1]):
            end = _end_of(ts[i], resolution)
            count = 0
            total = 0.0
            c = 0.0
            least = math.nan
            most = math.nan
            fallen = 0.0
            first = 0
            previous = 0
            while i < last and ts[i] <= end:
                stale[row] = bits[i] == stale_bits
                if not stale[row]:
                    value = values[i]
                    if count == 0:
                        first = i
                    elif value < values[previous]:
                        fallen += values[previous]
                    if not value >= least:  # true of the first, and of all after NaN
                        least = least if value != value else value
                    if not value <= most:
                        most = most if value != value else value
                    total, c = _add(value, total, c)
                    previous = i
                    count += 1
                i += 1
            ends[row] = end
            counts[row] = count
            sums[row] = total if math.isinf(total) else total + c
            mins[row] = least
            maxs[row] = most
            first_ms[row] = ts[first] if count > 0 else end
            firsts[row] = values[first] if count > 0 else math.nan
            last_ms[row] = ts[previous] if count > 0 else end
            lasts[row] = values[previous] if count > 0 else math.nan
            resets[row] = fallen
