"""Putting the store's samples and the head's together."""

import numpy as np

from promlike.kernel import kernel
from promlike.model.blocks import Int64, SampleBlock


def merge_blocks(head: SampleBlock, stored: SampleBlock, rows: Int64) -> SampleBlock:
    """The head's block with the stored samples of some of its rows: row i of `stored` belongs to row `rows[i]`.

    At equal times the head's sample wins.
    """
    counts = np.zeros(head.series + 1, np.int64)
    counts[rows + 1] = np.diff(stored.offsets)
    stored_offsets = np.cumsum(counts)
    total = len(head.ts_ms) + len(stored.ts_ms)
    ts_ms, bits, offsets = np.empty(total, np.int64), np.empty(total, np.int64), np.zeros(head.series + 1, np.int64)
    written = merge_rows(
        head.ts_ms,
        head.values.view(np.int64),
        head.offsets,
        stored.ts_ms,
        stored.values.view(np.int64),
        stored_offsets,
        ts_ms,
        bits,
        offsets,
    )
    return SampleBlock(ts_ms=ts_ms[:written], values=bits[:written].view(np.float64), offsets=offsets)


@kernel("(i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1])")
def merge_rows(
    a_ts: Int64, a_bits: Int64, a_offsets: Int64, b_ts: Int64, b_bits: Int64, b_offsets: Int64, ts: Int64, bits: Int64, offsets: Int64
) -> int:
    """Merge two blocks of S rows, row by row; where both have a time, a's value is taken. Returns how many samples came out.

    Times, bits of values and offsets of each (int64[N], int64[N], int64[S+1]); `ts` and `bits` have room for the samples of both.
    """
    n = 0
    for row in range(len(a_offsets) - 1):
        i, i_end = a_offsets[row], a_offsets[row + 1]
        j, j_end = b_offsets[row], b_offsets[row + 1]
        while i < i_end or j < j_end:
            if j == j_end or (i < i_end and a_ts[i] <= b_ts[j]):
                if j < j_end and a_ts[i] == b_ts[j]:
                    j += 1
                ts[n] = a_ts[i]
                bits[n] = a_bits[i]
                i += 1
            else:
                ts[n] = b_ts[j]
                bits[n] = b_bits[j]
                j += 1
            n += 1
        offsets[row + 1] = n
    return n
