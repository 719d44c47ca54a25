"""Kernels that take samples away: from the head's chains (see `head_kernels`) and from blocks that a store gave."""

import numpy as np

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Int32, Int64

BASE, PREV, FILL = range(3)
MIN_TIME = -(2**63)


@inlined
def _upto(deltas: Int32, block: int, count: int, limit: int) -> int:
    """How many of the block's first `count` deltas are <= limit."""
    low = 0
    high = count
    while low < high:
        middle = (low + high) >> 1
        if np.int64(deltas[block, middle]) <= limit:
            low = middle + 1
        else:
            high = middle
    return low


@kernel("(i4[::1], i8, i8, i8[::1], i4[:,::1], i8[:,::1], i8[:,::1], i8[::1], i4[::1], i8[::1])")
def delete_from_chains(
    refs: Int32,
    start_ms: int,
    end_ms: int,
    given_ms: Int64,
    deltas: Int32,
    block_bits: Int64,
    links: Int64,
    work: Int64,
    freed: Int32,
    newest: Int64,
) -> tuple[int, int]:
    """Take the samples in (start, end] out of the chains of `refs int32[S]`, each standing there once.

    Blocks that become empty go into `freed int32[blocks]`. `newest int64[S]` gets the newest time that is left in each chain, MIN_TIME
    when none is. Returns how many blocks were freed, and how many of the samples were newer than `given_ms int64[refs]`.
    """
    blocks = 0
    removed = 0
    for i in range(len(refs)):
        s = refs[i]
        newest[i] = MIN_TIME
        tail = (work[s] >> 32) - 1
        if tail < 0:
            continue
        links[tail, FILL] = work[s] & 0xFFFFFFFF
        newer = np.int64(-1)
        block = tail
        while block >= 0:
            older = links[block, PREV]
            count = links[block, FILL]
            origin = links[block, BASE]
            if origin + np.int64(deltas[block, count - 1]) <= start_ms:
                break  # as are all older blocks
            low = 0 if origin > start_ms else _upto(deltas, block, count, start_ms - origin)
            high = 0 if origin > end_ms else _upto(deltas, block, count, end_ms - origin)
            for j in range(low, high):
                if origin + np.int64(deltas[block, j]) > given_ms[s]:
                    removed += 1
            if low == 0 and high == count:
                freed[blocks] = block
                blocks += 1
                if newer >= 0:
                    links[newer, PREV] = older
                else:
                    tail = older
                block = older
                continue
            if high > low:
                shift = deltas[block, high] if low == 0 else np.int32(0)
                for j in range(high, count):
                    deltas[block, low + j - high] = deltas[block, j] - shift
                    block_bits[block, low + j - high] = block_bits[block, j]
                links[block, BASE] = origin + np.int64(shift)
                links[block, FILL] = count - (high - low)
            newer = block
            block = older
        if tail >= 0:
            work[s] = ((tail + 1) << 32) | links[tail, FILL]
            newest[i] = links[tail, BASE] + np.int64(deltas[tail, links[tail, FILL] - 1])
        else:
            work[s] = 0
    return blocks, removed


@kernel("(i8[::1], i8[::1], i8[::1], i8[::1], i8[::1])")
def drop_between(ts: Int64, bits: Int64, offsets: Int64, start_ms: Int64, end_ms: Int64) -> int:
    """Move the samples of a block together that are not in (start_ms[i], end_ms[i]] of their row i, in place; returns how many stay.

    `ts`, `bits int64[N]`, `offsets int64[S+1]`, `start_ms`, `end_ms int64[S]`.
    """
    kept = 0
    begin = offsets[0]
    for i in range(len(offsets) - 1):
        end = offsets[i + 1]
        for j in range(begin, end):
            if not start_ms[i] < ts[j] <= end_ms[i]:
                ts[kept] = ts[j]
                bits[kept] = bits[j]
                kept += 1
        begin = end
        offsets[i + 1] = kept
    return kept
