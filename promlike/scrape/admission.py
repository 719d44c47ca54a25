"""The kernel that decides what becomes of the samples of a scrape, and remembers which series were there."""

from promlike.kernel import kernel
from promlike.model.blocks import Float64, Int32, Int64

NO_TIME = -(2**63)
"""Stands in a column of times where the line has none."""

DROPPED = -1
"""In place of a slot: relabelling dropped this series."""

TAKEN, DUPLICATES, ADDED, REFUSED = range(4)
"""Places in what `admit` counts."""


@kernel("(i4[::1], i8[::1], f8[::1], i8, i8, i8, i8, i8, i4[::1], i8[::1], i8[::1], i4[::1], i8[::1], f8[::1], i8[::1])")
def admit(
    which: Int32,
    ts_ms: Int64,
    values: Float64,
    scrape_ms: int,
    honor_times: int,
    track_times: int,
    scrape: int,
    last_scrape: int,
    refs: Int32,
    seen: Int64,
    touched: Int64,
    out_refs: Int32,
    out_ts_ms: Int64,
    out_values: Float64,
    counts: Int64,
) -> None:
    """Write the samples of N lines that are stored into the out columns, and remember which series were there.

    `refs`, `seen`, `touched` belong to slots: the series ref (negative: refused by the sink), the number of the last scrape in which the
    series counts for staleness, and of the last in which it was there at all. A second sample of a series without a time of its own is
    a duplicate and left out: the first one counts. `counts int64[4]` are samples taken, duplicates, series that were not there in
    `last_scrape`, and samples of refused series.
    """
    taken = 0
    duplicates = 0
    added = 0
    refused = 0
    for k in range(len(which)):
        slot = which[k]
        if slot < 0:
            continue
        if refs[slot] < 0:
            refused += 1
            continue
        timed = honor_times and ts_ms[k] != NO_TIME
        if not timed and touched[slot] == scrape:
            duplicates += 1
            continue
        if touched[slot] != scrape and touched[slot] != last_scrape:
            added += 1
        touched[slot] = scrape
        if not timed or track_times:
            seen[slot] = scrape
        out_refs[taken] = refs[slot]
        out_ts_ms[taken] = ts_ms[k] if timed else scrape_ms
        out_values[taken] = values[k]
        taken += 1
    counts[TAKEN] = taken
    counts[DUPLICATES] = duplicates
    counts[ADDED] = added
    counts[REFUSED] = refused
