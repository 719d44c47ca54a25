"""From rows as a database returns them to a block."""

import numpy as np

from promlike.kernel import kernel
from promlike.model.blocks import Bool, Float64, Int32, Int64, SampleBlock


def arrange(refs: Int32, found_refs: Int32, ts_ms: Int64, values: Float64) -> SampleBlock:
    """Samples in any order (int32[N], int64[N], float64[N]) as a block whose rows are `refs int32[S]`, S > 0.

    Samples of other refs are left out; where a time stands twice, the one that comes later is kept.
    """
    low, high = int(refs.min()), int(refs.max())
    row_of = np.full(high - low + 1, -1, np.int32)
    row_of[refs - low] = np.arange(len(refs), dtype=np.int32)
    offsets = np.zeros(len(refs) + 1, np.int64)
    unsorted = np.zeros(len(refs), np.bool_)
    ts_out, bits = np.empty(len(found_refs), np.int64), np.empty(len(found_refs), np.int64)
    total = place_samples(found_refs, low, row_of, ts_ms, values.view(np.int64), offsets, unsorted, ts_out, bits)
    block = SampleBlock(ts_ms=ts_out[:total], values=bits[:total].view(np.float64), offsets=offsets)
    return _sorted(block, np.flatnonzero(unsorted)) if unsorted.any() else block


def rows_of(ids: Int32, found: Int32) -> Int32:
    """For each of `found int32[N]` its row in `ids int32[S]`, ids all different; -1 where it stands nowhere: int32[N].

    Fast when equal ones stand together, however far apart the ids are.
    """
    order = np.argsort(ids).astype(np.int32)
    return find_rows(np.ascontiguousarray(ids[order]), order, found)


def _sorted(block: SampleBlock, rows: Int64) -> SampleBlock:
    """The block with these rows sorted by time. They are few: rows that got late samples."""
    ts_ms, values, offsets = block.ts_ms, block.values, block.offsets
    for start, end in zip(offsets[rows].tolist(), offsets[rows + 1].tolist(), strict=True):
        order = np.argsort(ts_ms[start:end], kind="stable")
        ts_ms[start:end] = ts_ms[start:end][order]
        values.view(np.int64)[start:end] = values.view(np.int64)[start:end][order]
    keep = np.ones(len(ts_ms), np.bool_)
    keep[:-1] = ts_ms[1:] != ts_ms[:-1]
    keep[offsets[1:][offsets[1:] > offsets[:-1]] - 1] = True
    kept = np.append(0, np.cumsum(keep))
    return SampleBlock(ts_ms=ts_ms[keep], values=values[keep], offsets=kept[offsets])


@kernel("(i4[::1], i4[::1], i4[::1])")
def find_rows(ascending: Int32, order: Int32, found: Int32) -> Int32:
    """`order[k]` of the `ascending[k]` that equals each of `found`, -1 without one."""
    rows = np.empty(len(found), np.int32)
    last_id, last_row = np.int64(-(2**40)), np.int32(-1)
    for i in range(len(found)):
        if found[i] != last_id:
            last_id = np.int64(found[i])
            low, high = 0, len(ascending)
            while low < high:
                middle = (low + high) // 2
                if ascending[middle] < last_id:
                    low = middle + 1
                else:
                    high = middle
            last_row = order[low] if low < len(ascending) and ascending[low] == last_id else np.int32(-1)
        rows[i] = last_row
    return rows


@kernel("(i4[::1], i8, i4[::1], i8[::1], i8[::1], i8[::1], b1[::1], i8[::1], i8[::1])")
def place_samples(
    refs: Int32,
    low: int,
    row_of: Int32,
    ts: Int64,
    bits: Int64,
    offsets: Int64,
    unsorted: Bool,
    ts_out: Int64,
    bits_out: Int64,
) -> int:
    """Counting sort by `row_of[ref - low]` (-1 or outside: left out), stable; mark rows whose times do not rise. Returns how many."""
    series = len(offsets) - 1
    rows = np.empty(len(refs), np.int32)
    for i in range(len(refs)):
        at = np.int64(refs[i]) - low
        rows[i] = row_of[at] if 0 <= at < len(row_of) else -1
        if rows[i] >= 0:
            offsets[rows[i] + 1] += 1
    for row in range(series):
        offsets[row + 1] += offsets[row]
    place = offsets[:series].copy()
    for i in range(len(rows)):
        row = rows[i]
        if row >= 0:
            at = place[row]
            ts_out[at] = ts[i]
            bits_out[at] = bits[i]
            place[row] = at + 1
            if at > offsets[row] and ts_out[at - 1] >= ts[i]:
                unsorted[row] = True
    return int(offsets[series])
