"""Kernels of the head: per-series chains of fixed blocks in one pool of arrays.

A block holds up to BLOCK samples of one series, sorted by time: times as int32 milliseconds after the block's base (its first sample),
values as the int64 bits of the float, so that NaNs compare and survive as they are. `links[b, PREV]` is the next older block of the
series or -1, `links[b, FILL]` the number of samples in a block that is not the newest of its series. The newest is described by one
packed int64 a series, `(block + 1) << 32 | samples` (0: no block), because readers in other threads must see both halves change at once.

These kernels write and are called from one thread; those that read are in `head_read_kernels`.
"""

import numpy as np

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Int32, Int64

BLOCK = 64
SPAN = 2**31 - 1
MIN_TIME = -(2**63)

BASE, PREV, FILL = range(3)
"""Columns of `links int64[blocks,4]`: together, so that walking a chain costs one cache line a block (the fourth column keeps it whole)."""

DUPLICATE = 0
OVERWRITTEN = 1
INSERTED = 2


@inlined
def _take_block(pool: Int64, free: Int32) -> int:
    """A block from the free stack (pool[1] high), else the next never used (pool[0])."""
    if pool[1] > 0:
        pool[1] -= 1
        return int(free[pool[1]])
    pool[0] += 1
    return int(pool[0]) - 1


@inlined
def _upper_bound(deltas: Int32, block: int, count: int, base: int, limit: int) -> int:
    """How many of the block's first `count` times are <= limit."""
    low = 0
    high = count
    while low < high:
        middle = (low + high) >> 1
        if base + np.int64(deltas[block, middle]) <= limit:
            low = middle + 1
        else:
            high = middle
    return low


@kernel("(i4[::1], i8[::1], i8[::1], i4[:,::1], i8[:,::1], i8[:,::1], i8[::1], i8[::1], i8[::1], i4[::1], i8[::1], i8[::1])")
def append(
    refs: Int32,
    ts: Int64,
    bits: Int64,
    deltas: Int32,
    block_bits: Int64,
    links: Int64,
    work: Int64,
    last: Int64,
    first: Int64,
    free: Int32,
    pool: Int64,
    late: Int64,
) -> int:
    """Append samples newer than their series' last; put the rows of all others into `late int64[N]` and return how many."""
    found = 0
    for i in range(len(refs)):
        s = refs[i]
        t = ts[i]
        if t <= last[s]:
            late[found] = i
            found += 1
            continue
        word = work[s]
        block = (word >> 32) - 1
        count = word & 0xFFFFFFFF
        if block < 0 or count == BLOCK or t - links[block, BASE] > SPAN:
            new = _take_block(pool, free)
            if block >= 0:
                links[block, FILL] = count
            links[new, PREV] = block
            links[new, BASE] = t
            block = new
            count = 0
            if first[s] > t:
                first[s] = t
        deltas[block, count] = t - links[block, BASE]
        block_bits[block, count] = bits[i]
        work[s] = ((block + 1) << 32) | (count + 1)
        last[s] = t
    return found


@kernel("(i4[::1], i8[::1], i8[::1])")
def publish(refs: Int32, work: Int64, published: Int64) -> None:
    """Show readers what `append` wrote. A call of its own, so that no sample becomes visible before its bytes are."""
    for i in range(len(refs)):
        published[refs[i]] = work[refs[i]]


@kernel("(i4[::1], i8[::1], i8[::1], i4[:,::1], i8[:,::1], i8[:,::1], i8[::1], i8[::1], i4[::1], i8[::1], i1[::1])")
def insert(
    refs: Int32,
    ts: Int64,
    bits: Int64,
    deltas: Int32,
    block_bits: Int64,
    links: Int64,
    work: Int64,
    first: Int64,
    free: Int32,
    pool: Int64,
    outcome: "np.ndarray[tuple[int], np.dtype[np.int8]]",
) -> None:
    """Put samples where they belong in their chains; `outcome int8[N]` says DUPLICATE, OVERWRITTEN or INSERTED."""
    for i in range(len(refs)):
        s = refs[i]
        t = ts[i]
        if t < first[s]:
            first[s] = t
        tail = (work[s] >> 32) - 1
        if tail >= 0:
            links[tail, FILL] = work[s] & 0xFFFFFFFF
        newer = np.int64(-1)
        block = tail
        while block >= 0 and links[block, BASE] > t:
            newer = block
            block = links[block, PREV]
        at = 0
        if block >= 0:
            at = _upper_bound(deltas, block, links[block, FILL], links[block, BASE], t)
            if links[block, BASE] + np.int64(deltas[block, at - 1]) == t:
                outcome[i] = DUPLICATE if block_bits[block, at - 1] == bits[i] else OVERWRITTEN
                block_bits[block, at - 1] = bits[i]
                continue
        outcome[i] = INSERTED
        older = block
        if (
            block < 0
            and newer >= 0
            and links[newer, FILL] < BLOCK
            and links[newer, BASE] - t + np.int64(deltas[newer, links[newer, FILL] - 1]) <= SPAN
        ):
            # Older than everything: make room for it at the front of the oldest block.
            block = newer
            newer = np.int64(-2)
            shift = links[block, BASE] - t
            for j in range(links[block, FILL]):
                deltas[block, j] += shift
            links[block, BASE] = t
        elif block < 0 or t - links[block, BASE] > SPAN or (at == BLOCK):
            # A block of its own, between `older` and `newer`.
            block = _take_block(pool, free)
            links[block, PREV] = older
            links[block, BASE] = t
            links[block, FILL] = 0
            at = 0
            if newer >= 0:
                links[newer, PREV] = block
            else:
                tail = block
        elif links[block, FILL] == BLOCK:
            # Split the full block in two halves.
            half = BLOCK // 2
            upper = _take_block(pool, free)
            links[upper, BASE] = links[block, BASE] + np.int64(deltas[block, half])
            for j in range(half, BLOCK):
                deltas[upper, j - half] = deltas[block, j] - deltas[block, half]
                block_bits[upper, j - half] = block_bits[block, j]
            links[upper, FILL] = BLOCK - half
            links[block, FILL] = half
            links[upper, PREV] = block
            if newer >= 0:
                links[newer, PREV] = upper
            else:
                tail = upper
            if at > half:
                block = upper
                at -= half
        for j in range(links[block, FILL], at, -1):
            deltas[block, j] = deltas[block, j - 1]
            block_bits[block, j] = block_bits[block, j - 1]
        deltas[block, at] = t - links[block, BASE]
        block_bits[block, at] = bits[i]
        links[block, FILL] += 1
        work[s] = ((tail + 1) << 32) | links[tail, FILL]


@kernel("(i8, i8, i8, i8[::1], i8[::1], u1[::1], i4[:,::1], i8[:,::1], i8[::1])")
def find_cuts(
    ref_from: int,
    ref_to: int,
    cutoff_ms: int,
    flushed: Int64,
    work: Int64,
    pinned: "np.ndarray[tuple[int], np.dtype[np.uint8]]",
    deltas: Int32,
    links: Int64,
    cuts: Int64,
) -> int:
    """For each series the newest block whose samples are all <= cutoff and flushed, or -1, into `cuts int64[ref_to-ref_from]`.

    Returns how many series have one. Series marked in `pinned uint8[refs]` are left alone.
    """
    found = 0
    for s in range(ref_from, ref_to):
        cuts[s - ref_from] = -1
        if pinned[s]:
            continue
        limit = min(cutoff_ms, flushed[s])
        block = (work[s] >> 32) - 1
        count = work[s] & 0xFFFFFFFF
        while block >= 0:
            if links[block, BASE] <= limit and links[block, BASE] + np.int64(deltas[block, count - 1]) <= limit:
                cuts[s - ref_from] = block
                found += 1
                break
            block = links[block, PREV]
            if block >= 0:
                count = links[block, FILL]
    return found


@kernel("(i8, i8, i8[::1], i8[::1], i8[::1], i4[:,::1], i8[:,::1], i4[::1])")
def cut_chains(
    ref_from: int,
    ref_to: int,
    cuts: Int64,
    work: Int64,
    covered: Int64,
    deltas: Int32,
    links: Int64,
    freed: Int32,
) -> int:
    """Take the blocks that `find_cuts` named, and all older ones, out of their chains into `freed`; returns how many.

    `covered int64[refs]` rises to the last time taken out: from there on the head is still complete.
    """
    count = 0
    for s in range(ref_from, ref_to):
        cut = cuts[s - ref_from]
        if cut < 0:
            continue
        tail = (work[s] >> 32) - 1
        samples = links[cut, FILL]
        if cut == tail:
            samples = work[s] & 0xFFFFFFFF
            work[s] = 0
        else:
            block = tail
            while links[block, PREV] != cut:
                block = links[block, PREV]
            links[block, PREV] = -1
        covered[s] = max(covered[s], links[cut, BASE] + np.int64(deltas[cut, samples - 1]))
        block = cut
        while block >= 0:
            freed[count] = block
            count += 1
            block = links[block, PREV]
    return count
