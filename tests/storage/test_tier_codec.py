"""Rows of tiers as bytes: nothing is lost, and what changes little takes little."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from promlike.errors import StorageError
from promlike.model.blocks import STALE_NAN, Bool, Int32, Int64
from promlike.model.tiers import ALL_COLUMNS, COLUMN_TYPES, RESOLUTIONS_MS, TierBlock, TierColumn
from promlike.storage.packed_tier import pack_into_tier
from promlike.storage.roll_up import roll_up
from promlike.storage.tier_packing import change, ends_of_stretches, merged_from_ms, pack, span_of
from promlike.storage.tiers import SPANS_MS, Marks, PackedRows
from promlike.storage.timescale.copy import HEADER, TRAILER
from promlike.storage.timescale.packed_copy import decode_packed, encode_packing
from tests.promql.window_data import SEEDS, block_of, random_block

FIVE_MS, HOUR_MS = RESOLUTIONS_MS.values()
DAY_MS = 24 * HOUR_MS
NO_MARKS = Marks.none()


def tier_of(samples: Sequence[Sequence[tuple[int, float]]], resolution_ms: int = FIVE_MS) -> TierBlock:
    return roll_up(block_of([list(row) for row in samples]), resolution_ms)


def refs_of(block: TierBlock, first: int = 0) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    return np.arange(first, first + block.series, dtype=np.int32)


def assert_same(got: TierBlock, wanted: TierBlock) -> None:
    """Bit for bit."""
    got.validate()
    np.testing.assert_array_equal(got.offsets, wanted.offsets)
    for name, column in wanted.rows.columns().items():
        found = got.rows.columns()[name]
        kind = np.int64 if column.dtype == np.float64 else column.dtype
        np.testing.assert_array_equal(found.view(kind), column.view(kind), err_msg=name)


VALUES = {
    "counter": np.cumsum(np.arange(700.0) % 7),
    "cents": np.round(np.cumsum(np.arange(700) % 7 * 0.01) + 5, 2),
    "thousandths": np.arange(700) / 1000,
    "halves": np.arange(700) / 2 + 1e9,
    "bytes": np.arange(700.0) * 4096 + 2**40,
    "noise": np.random.default_rng(1).normal(size=700) * 1e-7,
    "signs": np.where(np.arange(700) % 2, -1e300, 1e300),
    "zeros": np.where(np.arange(700) % 3, 0.0, -0.0),
    "odd": np.resize(
        [math.nan, math.inf, -math.inf, 5e-324, -5e-324, 1.7976931348623157e308, 0.1, 2.0**53, -(2.0**53) - 2, STALE_NAN], 700
    ),
    "nothing": np.full(700, STALE_NAN),
}


@pytest.mark.parametrize("name", VALUES)
def test_every_bit_comes_back(name: str) -> None:
    times = -3 * DAY_MS + np.arange(700) * 1_234_567
    block = tier_of([list(zip(times.tolist(), VALUES[name].tolist(), strict=True)), [], [(1, 5.0)]])
    refs = refs_of(block, first=7)
    packed = pack(refs, block).packed()
    assert_same(pack_into_tier(FIVE_MS, refs, [packed]).part(0, 3), block)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_rows_come_back_in_parts_in_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = random_block(seed)
    samples = replace(samples, ts_ms=samples.ts_ms * 3000)  # over some days
    for resolution_ms in (FIVE_MS, HOUR_MS):
        block = roll_up(samples, resolution_ms)
        refs = refs_of(block)
        packed = shuffled(pack(refs, block).packed(), rng)
        half = len(packed.refs) // 2
        parts = [taken(packed, slice(half, None)), taken(packed, slice(0, half))]
        tier = pack_into_tier(resolution_ms, refs[::-1].copy(), parts)
        assert tier.count == block.count
        for low, high in ((0, 12), (3, 4), (5, 11), (6, 6)):
            got, wanted = tier.part(low, high), [block.part(11 - s, 12 - s) for s in range(low, high)]
            assert got.offsets.tolist() == np.cumsum([0, *(each.count for each in wanted)]).tolist()
            for s, each in enumerate(wanted):
                assert_same(got.part(s, s + 1), each)
        filled, without = tier.filled_series()
        assert filled.tolist() == (np.diff(block.offsets) > 0)[::-1].tolist()
        assert_same(without.part(0, without.series), tier.part(0, 12).filled_series()[1])


def shuffled(packed: PackedRows, rng: np.random.Generator) -> PackedRows:
    return taken(packed, rng.permutation(len(packed.refs)))


def taken(packed: PackedRows, rows: "Bool | Int64 | slice") -> PackedRows:
    columns = {name: (data, starts[rows]) for name, (data, starts) in packed.columns.items()}
    return PackedRows(refs=packed.refs[rows], until_ms=packed.until_ms[rows], rows=packed.rows[rows], columns=columns, nbytes=packed.nbytes)


def test_rows_are_clipped_for_each_series_and_followed_by_the_newest() -> None:
    times = [k * 200_000 for k in range(-500, 500)]
    block = tier_of([[(ts, float(ts)) for ts in times] for _ in range(3)])
    refs = refs_of(block)
    upto = np.array([10 * FIVE_MS, -(2**62), 0], np.int64)
    newest = tier_of([[(10 * FIVE_MS + 1, 1.0), (12 * FIVE_MS, 2.0)], [(7, 3.0)], []])
    columns = TierColumn.SUM | TierColumn.COUNT
    tier = pack_into_tier(FIVE_MS, refs, [pack(refs, block).packed()], columns=columns, after_ms=-10 * FIVE_MS, upto_ms=upto, newest=newest)
    part = tier.part(0, 3)
    assert tier.count == part.count == 20 + 2 + 1 + 10
    ends = [part.part(s, s + 1).rows.ends_ms.tolist() for s in range(3)]
    assert ends[0] == [*range(-9 * FIVE_MS, 11 * FIVE_MS, FIVE_MS), 11 * FIVE_MS, 12 * FIVE_MS]
    assert ends[1:] == [[FIVE_MS], [*range(-9 * FIVE_MS, FIVE_MS, FIVE_MS)]]
    assert part.rows.sums[-11:-9].tolist() == [3.0, float(sum(ts for ts in times if -10 * FIVE_MS < ts <= -9 * FIVE_MS))]
    assert not len(part.rows.lasts)


def test_steady_counters_take_few_bytes() -> None:
    rng = np.random.default_rng(2)
    rows = [[(k * 15_000, float(v)) for k, v in enumerate(np.cumsum(rng.integers(0, 20, 5760 * 3)), 1)] for _ in range(4)]
    block = tier_of(rows)
    packed = pack(refs_of(block), block).packed()
    rated = sum(int(pack(refs_of(block), block).columns[name].sizes.sum()) for name in ("ends_ms", "counts", "firsts", "lasts", "resets"))
    assert rated / block.count < 6
    assert packed.nbytes / block.count < 16


def random_rows(rng: np.random.Generator, series: int, low_ms: int, high_ms: int) -> list[list[tuple[int, float]]]:
    found = []
    for _ in range(series):
        times = np.sort(rng.choice(np.arange(low_ms // 60_000, high_ms // 60_000), int(rng.integers(0, 80)), replace=False)) * 60_000
        found.append([(int(ts), float(rng.integers(0, 99))) for ts in times])
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("resolution_ms", [FIVE_MS, HOUR_MS])
def test_rows_change_as_their_twin(seed: int, resolution_ms: int) -> None:
    """A tier as a dict of series and bucket, beside one that is packed, changed at random."""
    rng = np.random.default_rng(seed)
    twin: dict[tuple[int, int], tuple[object, ...]] = {}
    stored: list[PackedRows] = []
    for _ in range(8):
        refs = np.sort(rng.choice(6, int(rng.integers(0, 6)), replace=False)).astype(np.int32)
        low, high = (int(rng.integers(-40, 40)) * HOUR_MS for _ in range(2))
        low, high = min(low, high), max(low, high) + HOUR_MS
        given = tier_of(random_rows(rng, len(refs), low, high), resolution_ms)
        count = int(rng.integers(0, 5))
        start = rng.integers(-200, 200, count) * HOUR_MS
        replaced = Marks(
            refs=rng.integers(0, 6, count).astype(np.int32), start_ms=start, end_ms=start + rng.integers(1, 50, count) * HOUR_MS
        )
        made = change(resolution_ms, stored, refs, given, replaced)
        gone = set(zip(made.refs.tolist(), made.until_ms.tolist(), strict=True))
        kept = [np.flatnonzero([at not in gone for at in zip(part.refs.tolist(), part.until_ms.tolist(), strict=True)]) for part in stored]
        stored = [taken(part, rows) for part, rows in zip(stored, kept, strict=True)] + [made.packing.packed()]
        for ref, first, last in zip(replaced.refs.tolist(), replaced.start_ms.tolist(), replaced.end_ms.tolist(), strict=True):
            twin = {key: row for key, row in twin.items() if key[0] != ref or not first < key[1] <= last}
        twin |= rows_by_bucket(refs.tolist(), given)
        everyone = np.arange(6, dtype=np.int32)
        assert rows_by_bucket(everyone.tolist(), pack_into_tier(resolution_ms, everyone, stored).part(0, 6)) == twin
        places = [at for part in stored for at in zip(part.refs.tolist(), part.until_ms.tolist(), strict=True)]
        assert len(set(places)) == len(places)


def rows_by_bucket(refs: list[int], block: TierBlock) -> dict[tuple[int, int], tuple[object, ...]]:
    owners = np.repeat(refs, np.diff(block.offsets)).tolist()
    columns = [block.rows.columns()[name].tolist() for name in COLUMN_TYPES]
    return {(int(owner), int(row[0])): tuple(row) for owner, row in zip(owners, zip(*columns, strict=True), strict=True)}


def test_a_copy_stream_gives_back_what_it_was_made_of() -> None:
    block = tier_of([[(k * 250_000, k * 0.5) for k in range(900)], [(1, STALE_NAN)]])
    ids = np.array([70_000, 3], np.int32)
    packing = pack(ids, block)
    columns, stream = encode_packing(packing.refs, packing)
    assert columns[:5] == ("until", "series_id", "rows", "first_time", "last_time")
    without = cut_out(bytes(stream), len(columns), drop=(3, 4))
    found = decode_packed(list(COLUMN_TYPES), bytearray(without))
    assert found.until_ms.tolist() == packing.until_ms.tolist()
    spans = list(zip(found.refs.tolist(), ends_of_stretches(found.until_ms, FIVE_MS).tolist(), strict=True))
    assert len(set(spans)) == len(spans)
    assert_same(pack_into_tier(FIVE_MS, ids, [found], columns=ALL_COLUMNS).part(0, 2), block)
    for broken in (without[:-3], without[:40] + without[41:], b"PGCOPZ" + without[6:], without[:20] + b"\x09" + without[21:]):
        with pytest.raises(StorageError, match="the database answered with"):
            decode_packed(list(COLUMN_TYPES), bytearray(broken))


def cut_out(stream: bytes, fields: int, drop: tuple[int, ...]) -> bytes:
    """The stream without some fields."""
    at, found = len(HEADER), [HEADER]
    while stream[at : at + 2] != TRAILER:
        at += 2
        row = []
        for _ in range(fields):
            size = 4 + int.from_bytes(stream[at : at + 4], "big")
            row.append(stream[at : at + size])
            at += size
        found += [(fields - len(drop)).to_bytes(2, "big"), *(part for k, part in enumerate(row) if k not in drop)]
    return b"".join([*found, TRAILER])


def test_changing_nothing_changes_nothing() -> None:
    block = tier_of([[(k * 250_000, float(k)) for k in range(900)]])
    stored = pack(refs_of(block), block).packed()
    none = tier_of([])
    made = change(
        FIVE_MS, [stored], refs_of(none), none, Marks(refs=np.array([4], np.int32), start_ms=np.array([0]), end_ms=np.array([DAY_MS]))
    )
    assert not len(made.refs)
    assert not len(made.packing.refs)
    assert not len(change(FIVE_MS, [], refs_of(none), none, NO_MARKS).packing.refs)


@pytest.mark.parametrize(
    ("hour", "resolution_ms", "hours"),  # the last ones are those whose stretches become one
    [
        (1, FIVE_MS, 0),
        (6, FIVE_MS, 6),
        (18, FIVE_MS, 6),
        (24, FIVE_MS, 24),
        (25, HOUR_MS, 0),
        (30, HOUR_MS, 6),
        (48, HOUR_MS, 24),
        (96, HOUR_MS, 96),
    ],
)
def test_stretches_are_put_together_at_the_ends_of_longer_times(hour: int, resolution_ms: int, hours: int) -> None:
    ends_ms = np.array([hour * HOUR_MS, hour * HOUR_MS - 3 * FIVE_MS])  # the second one has nothing at the end of the hour
    starts_ms = [(hour - hours) * HOUR_MS] * 2 if hours else ends_ms.tolist()
    assert merged_from_ms(ends_ms, resolution_ms).tolist() == starts_ms


class Kept:
    """What a store does with changes."""

    def __init__(self, resolution_ms: int) -> None:
        self.resolution_ms = resolution_ms
        self.parts: list[PackedRows] = []

    def change(self, refs: Int32, block: TierBlock, replaced: Marks) -> None:
        span = span_of(self.resolution_ms, refs, block, replaced)
        assert span is not None
        stored = [taken(part, (part.until_ms > span[0]) & (part.until_ms <= span[1])) for part in self.parts]
        changed = change(self.resolution_ms, stored, refs, block, replaced)
        gone = set(zip(changed.refs.tolist(), changed.until_ms.tolist(), strict=True))
        self.parts = [taken(part, np.array([key not in gone for key in keys(part)], bool)) for part in self.parts]
        self.parts = [part for part in [*self.parts, changed.packing.packed()] if len(part.refs)]

    def stretches(self) -> list[tuple[int, int]]:
        return [key for part in self.parts for key in keys(part)]


def keys(part: PackedRows) -> list[tuple[int, int]]:
    return list(zip(part.refs.tolist(), part.until_ms.tolist(), strict=True))


@pytest.mark.parametrize("resolution_ms", [FIVE_MS, HOUR_MS])
@pytest.mark.parametrize("seed", SEEDS[:4])
def test_rows_that_come_hour_by_hour_and_again_are_all_there_in_few_stretches(resolution_ms: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kept, hours, span_ms = Kept(resolution_ms), 2 * SPANS_MS[resolution_ms] // HOUR_MS, SPANS_MS[resolution_ms]
    samples: list[dict[int, float]] = [{}, {}, {}]
    refs = np.arange(3, dtype=np.int32)

    def roll(first_hour: int, last_hour: int) -> None:
        """Rows of (first, last] in the place of what is there."""
        low, high = first_hour * HOUR_MS, last_hour * HOUR_MS
        inside = [[(ts, value) for ts, value in sorted(row.items()) if low < ts <= high] for row in samples]
        marks = Marks(refs=refs, start_ms=np.full(3, low), end_ms=np.full(3, high))
        kept.change(refs, tier_of(inside, resolution_ms), marks)

    for hour in range(hours):
        for number, row in enumerate(samples):
            if number < 2 or rng.random() < 0.3:  # one of them has only something now and then
                row.update({hour * HOUR_MS + int(k): float(k) for k in rng.integers(1, HOUR_MS + 1, 5)})
        roll(hour, hour + 1)
        if rng.random() < 0.2:
            late = int(rng.integers(0, hour + 1))
            samples[0][late * HOUR_MS + 7] = -1.0
            roll(late, late + 1)
        assert_same(
            pack_into_tier(resolution_ms, refs, kept.parts).part(0, 3), tier_of([sorted(row.items()) for row in samples], resolution_ms)
        )
        found = kept.stretches()
        assert len(set(found)) == len(found)
        newest = [ref for ref, until in found if until > hour * HOUR_MS // span_ms * span_ms]
        assert max(newest.count(0), newest.count(1)) <= 5 + 3 + 3
    assert sum(ref == 1 for ref, _ in kept.stretches()) == 2
