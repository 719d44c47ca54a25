"""Kernels that read the head's chains of blocks (see `head_kernels`), from any thread and without a lock.

They start from a copy of the packed words and bound what they write by what they counted; the series' version tells afterwards whether a
chain changed other than at its end (see `head_reader.HeadReader`).
"""

import numpy as np

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Int32, Int64

BASE, PREV, FILL = range(3)
"""Columns of `links`, as in `head_kernels`."""


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


@inlined
def _close_bound(deltas: Int32, block: int, count: int, delta: int, guess: int) -> int:
    """How many of the block's first `count` deltas are <= delta, sought from a guess on: samples come at even distances mostly, and every
    line of the block that is not looked at saves a wait for memory."""
    at = min(max(guess, 0), count)
    while at < count and deltas[block, at] <= delta:
        at += 1
    while at > 0 and deltas[block, at - 1] > delta:
        at -= 1
    return at


@kernel("(i8[::1], i8[::1], i8[::1], i4[:,::1], i8[:,::1], i8[::1])")
def count_samples(heads: Int64, start_ms: Int64, end_ms: Int64, deltas: Int32, links: Int64, counts: Int64) -> int:
    """Samples in (start, end] of each chain into `counts int64[S]`; returns their sum.

    `heads int64[S]` are copies of the packed words; `start_ms`, `end_ms int64[S]` or of length 1 for all.
    """
    total = 0
    for i in range(len(heads)):
        start = start_ms[i] if len(start_ms) > 1 else start_ms[0]
        end = end_ms[i] if len(end_ms) > 1 else end_ms[0]
        block = (heads[i] >> 32) - 1
        count = heads[i] & 0xFFFFFFFF
        found = 0
        whole = False
        while block >= 0:
            origin = links[block, BASE]
            if origin <= end and count > 0:
                # A block that is not the first to reach below `end` lies below it as a whole: its times need not be looked at.
                high = count if whole else _upper_bound(deltas, block, count, origin, end)
                whole = True
                if origin <= start:
                    found += max(high - _upper_bound(deltas, block, count, origin, start), 0)
                    break
                found += high
            block = links[block, PREV]
            if block >= 0:
                count = links[block, FILL]
        counts[i] = found
        total += found
    return total


@kernel(
    "(i8[::1], i8[::1], i8[::1], i4[:,::1], i8[:,::1], i8[:,::1], i8[::1], i8, i8, i8[::1], i8[::1])",
)
def copy_samples(
    heads: Int64,
    start_ms: Int64,
    end_ms: Int64,
    deltas: Int32,
    block_bits: Int64,
    links: Int64,
    offsets: Int64,
    row_from: int,
    row_to: int,
    ts_out: Int64,
    bits_out: Int64,
) -> int:
    """Copy the samples that `count_samples` counted for rows row_from..row_to-1 to `offsets[i]:offsets[i+1]` of the outputs.

    Never writes outside a row's place. Returns how many rows did not come out as counted, because their chain changed meanwhile.
    """
    wrong = 0
    for i in range(row_from, row_to):
        start = start_ms[i] if len(start_ms) > 1 else start_ms[0]
        end = end_ms[i] if len(end_ms) > 1 else end_ms[0]
        low_end = offsets[i]
        place = offsets[i + 1]
        block = (heads[i] >> 32) - 1
        count = heads[i] & 0xFFFFFFFF
        while block >= 0 and place > low_end:
            origin = links[block, BASE]
            if origin <= end and count > 0:
                high = count
                if origin + np.int64(deltas[block, count - 1]) > end:
                    high = _upper_bound(deltas, block, count, origin, end)
                low = 0 if origin > start else _upper_bound(deltas, block, count, origin, start)
                if low >= high:
                    break
                low = max(low, high - (place - low_end))
                place -= high - low
                for j in range(high - low):
                    ts_out[place + j] = origin + np.int64(deltas[block, low + j])
                    bits_out[place + j] = block_bits[block, low + j]
                if origin <= start:
                    break
            block = links[block, PREV]
            if block >= 0:
                count = links[block, FILL]
        if place != low_end:
            wrong += 1
    return wrong


@kernel("(i8[::1], i8, i8, i8, i8, i4[:,::1], i8[:,::1], i8[:,::1], i8[:,::1], i8[:,::1], i8[::1])")
def pick_samples(
    heads: Int64,
    start_ms: int,
    first_ms: int,
    step_ms: int,
    steps: int,
    deltas: Int32,
    block_bits: Int64,
    links: Int64,
    ts_out: Int64,
    bits_out: Int64,
    counts: Int64,
) -> None:
    """Of each chain the newest sample at or before each time `first_ms + k * step_ms`, k < steps, that is newer than `start_ms`; each once.

    Row i of `ts_out`, `bits_out int64[S,steps]` gets them at its end; `counts int64[S]` says how many. `heads` as for `count_samples`.
    """
    for i in range(len(heads)):
        place = steps
        block = (heads[i] >> 32) - 1
        count = heads[i] & 0xFFFFFFFF
        time = first_ms + (steps - 1) * step_ms
        newer = np.int64(-1)
        size = count
        while block >= 0 and place > 0:
            origin = links[block, BASE]
            if count <= 0 or origin > time:
                newer = origin
                block = links[block, PREV]
                if block >= 0:
                    count = links[block, FILL]
                    size = count
                continue
            if newer > origin:
                count = _close_bound(deltas, block, count, time - origin, (time - origin) * size // (newer - origin)) - 1
            else:
                count = _upper_bound(deltas, block, count, origin, time) - 1
            ts = origin + np.int64(deltas[block, count])
            if ts <= start_ms:
                break
            place -= 1
            ts_out[i, place] = ts
            bits_out[i, place] = block_bits[block, count]
            if ts <= first_ms:
                break
            time = first_ms + (ts - 1 - first_ms) // step_ms * step_ms
        counts[i] = steps - place


@kernel("(i8[::1], i8[::1], i8, i8[::1])")
def close_gaps(ts: Int64, bits: Int64, steps: int, offsets: Int64) -> None:
    """Move what `pick_samples` put at the end of each row of `steps` cells (int64[S*steps]) to `offsets[i]:offsets[i+1]` of all cells."""
    for i in range(len(offsets) - 1):
        place = offsets[i]
        count = offsets[i + 1] - place
        source = (i + 1) * steps - count
        if source != place:
            for k in range(count):
                ts[place + k] = ts[source + k]
                bits[place + k] = bits[source + k]
