"""The head against a slow twin: dicts of times."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promlike.errors import StorageUnavailable
from promlike.model.blocks import STALE_NAN, Float64, Int32, Int64, SampleBlock, StepGrid
from promlike.storage.arrange import arrange
from promlike.storage.head import Head
from promlike.storage.head_kernels import BLOCK
from promlike.storage.head_reader import HeadRead
from promlike.storage.head_snapshot import HeadSnapshot
from promlike.storage.merge import merge_blocks

EVERYTHING = (-(2**63), 2**63 - 1)


@pytest.fixture
def head() -> Iterator[Head]:
    with_room = new_head()
    yield with_room
    with_room.close()


def new_head(series: int = 4, pool_bytes: int = 16 << 20) -> Head:
    head = Head(pool_bytes=pool_bytes)
    for ref in range(series):
        head.add_series(ref)
    return head


def columns(samples: list[tuple[int, int, float]]) -> tuple[Int32, Int64, Float64]:
    return (
        np.array([ref for ref, _, _ in samples], np.int32),
        np.array([ts for _, ts, _ in samples], np.int64),
        np.array([value for _, _, value in samples], np.float64),
    )


def read(head: Head, refs: list[int], start_ms: int = EVERYTHING[0], end_ms: int = EVERYTHING[1], *, parallel: bool = False) -> HeadRead:
    found = head.reader.read(np.array(refs, np.int32), np.array([start_ms], np.int64), np.array([end_ms], np.int64), parallel=parallel)
    found.samples.validate()
    return found


def rows(block: SampleBlock) -> list[list[tuple[int, int]]]:
    """(time, bits of the value) row for row."""
    pairs = list(zip(block.ts_ms.tolist(), block.values.view(np.int64).tolist(), strict=True))
    return [pairs[a:b] for a, b in zip(block.offsets[:-1].tolist(), block.offsets[1:].tolist(), strict=True)]


def bits(value: float) -> int:
    return int(np.array([value]).view(np.int64)[0])


class Twin:
    """What head and store together must hold."""

    def __init__(self) -> None:
        self.truth: dict[int, dict[int, int]] = {}
        self.stored: dict[int, dict[int, int]] = {}

    def append(self, samples: list[tuple[int, int, float]]) -> tuple[int, int, int]:
        """Counts of appended, duplicate and overwritten samples."""
        counts = [0, 0, 0]
        for ref, ts, value in samples:
            series = self.truth.setdefault(ref, {})
            kind = 0 if ts not in series else 1 if series[ts] == bits(value) else 2
            counts[kind] += 1
            series[ts] = bits(value)
        return counts[0], counts[1], counts[2]

    def delete(self, refs: list[int], start_ms: int, end_ms: int) -> None:
        """From both, as a store does with its next flush, before it gets what is new."""
        for samples in (self.truth, self.stored):
            for ref in refs:
                samples[ref] = {ts: value for ts, value in samples.get(ref, {}).items() if not start_ms < ts <= end_ms}

    def store(self, head: Head, snapshot: HeadSnapshot) -> None:
        """Do as a store does with a flush, and hold it to the contract of FlushBatch."""
        refs = np.flatnonzero(snapshot.upto_ms > snapshot.flushed_ms).astype(np.int32)
        block = head.reader.read(refs, snapshot.flushed_ms[refs], snapshot.upto_ms[refs]).samples
        for ref, row in zip(refs.tolist(), rows(block), strict=True):
            series = self.stored.setdefault(ref, {})
            assert not series or not row or row[0][0] > max(series)
            series.update(row)
        late = snapshot.late()
        keys = list(zip(late.refs.tolist(), late.ts_ms.tolist(), strict=True))
        assert keys == sorted(set(keys))
        for (ref, ts), value in zip(keys, late.values.view(np.int64).tolist(), strict=True):
            assert ts <= snapshot.flushed_ms[ref]
            self.stored.setdefault(ref, {})[ts] = value

    def block(self, refs: list[int], start_ms: int, end_ms: int) -> SampleBlock:
        """What the store answers, shuffled."""
        found = [(ref, ts, value) for ref in refs for ts, value in self.stored.get(ref, {}).items() if start_ms < ts <= end_ms]
        order = np.random.default_rng(len(found)).permutation(len(found))
        chosen = [found[i] for i in order]
        return arrange(
            np.array(refs, np.int32),
            np.array([ref for ref, _, _ in chosen], np.int32),
            np.array([ts for _, ts, _ in chosen], np.int64),
            np.array([value for _, _, value in chosen], np.int64).view(np.float64),
        )

    def rows(self, refs: list[int], start_ms: int, end_ms: int) -> list[list[tuple[int, int]]]:
        return [sorted((ts, value) for ts, value in self.truth.get(ref, {}).items() if start_ms < ts <= end_ms) for ref in refs]


operation = st.one_of(
    st.tuples(
        st.just("append"),
        st.integers(1, 400),
        st.integers(0, 2**32 - 1),
        st.sampled_from(["rising", "random", "narrow", "falling", "wide"]),
    ),
    st.tuples(st.just("flush"), st.booleans(), st.integers(0, 2**32 - 1), st.just("")),
    st.tuples(st.just("collect"), st.integers(-100, 5000), st.just(0), st.just("")),
    st.tuples(st.just("delete"), st.integers(-100, 5000), st.integers(0, 4000), st.sampled_from(["0", "13", "0123"])),
)


def generated(count: int, seed: int, shape: str, at: int) -> list[tuple[int, int, float]]:
    """Samples of four series; times as senders, repeaters and back-fillers make them."""
    random = np.random.default_rng(seed)
    refs = random.integers(0, 4, count)
    times = {
        "rising": at + np.sort(random.integers(0, 1000, count)),
        "random": random.integers(0, 5000, count),
        "narrow": at + random.integers(0, 20, count),
        "falling": 3000 - np.arange(count),
        "wide": random.integers(-(2**40), 2**40, count),
    }[shape]
    values = random.choice([0.0, -0.0, 1.0, np.nan, STALE_NAN, np.inf], count)
    return list(zip(refs.tolist(), times.tolist(), values.tolist(), strict=True))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(operation, min_size=1, max_size=12), st.integers(-10, 5000), st.integers(-10, 5000))
def test_head_and_store_together_hold_what_was_appended(operations: list[tuple[str, int, int, str]], start_ms: int, end_ms: int) -> None:
    head, twin = new_head(), Twin()
    collected = False
    for at, (kind, amount, seed, shape) in enumerate(operations):
        if kind == "append":
            samples = generated(amount, seed, shape, at * 300)
            result = head.append(*columns(samples))
            expected = twin.append(samples)
            assert result.appended + result.duplicates + result.overwritten == amount
            if not collected:
                assert (result.appended, result.duplicates, result.overwritten) == expected
        elif kind == "flush":
            snapshot = head.snapshot()
            during = generated(30, seed, "random", 0)
            head.append(*columns(during))
            twin.append(during)
            if amount:
                twin.store(head, snapshot)
                head.flushed(snapshot)
            else:
                head.not_flushed()
        elif kind == "delete":
            refs = [int(ref) for ref in shape]
            head.delete(np.array(refs, np.int32), amount, amount + seed)
            twin.delete(refs, amount, amount + seed)
            for ref, newest in enumerate(head.newest_ms(slice(4)).tolist()):
                assert newest >= max(twin.truth.get(ref, {}), default=-(2**63))
        else:
            collected |= head.collect(0, 4, amount) > 0
        for low, high in ((start_ms, end_ms), EVERYTHING):
            refs = [2, 0, 3, 1]
            found = read(head, refs, low, high)
            upto = min(high, int(found.covered_ms.max()))
            merged = merge_blocks(found.samples, twin.block(refs, low, upto), np.arange(4))
            merged.validate()
            assert rows(merged) == twin.rows(refs, low, high)
    if not any(kind == "collect" for kind, *_ in operations):
        assert rows(read(head, [0, 1, 2, 3]).samples) == twin.rows([0, 1, 2, 3], *EVERYTHING)
    head.close()


def test_the_start_of_a_range_is_open_and_its_end_closed(head: Head) -> None:
    head.append(*columns([(0, ts, float(ts)) for ts in range(0, 1000, 10)]))
    for start, end in ((500, 520), (499, 519), (630, 640), (640, 650), (-50, 0), (-50, -1), (990, 2000), (989, 990), (20, 20), (30, 20)):
        assert [ts for ts, _ in rows(read(head, [0], start, end).samples)[0]] == [ts for ts in range(0, 1000, 10) if start < ts <= end]


def test_counts_tell_what_became_of_samples(head: Head) -> None:
    assert head.append(*columns([(0, 10, 1.0), (0, 20, 2.0)])).appended == 2
    again = head.append(*columns([(0, 10, 1.0), (0, 20, 3.0), (0, 15, 5.0), (1, 1, np.nan), (1, 1, np.nan)]))
    assert (again.appended, again.duplicates, again.overwritten) == (2, 2, 1)
    assert rows(read(head, [0]).samples) == [[(10, bits(1.0)), (15, bits(5.0)), (20, bits(3.0))]]


def test_times_far_apart_share_no_block(head: Head) -> None:
    times = [0, 2**31, 2**31 - 1, 2**33, 2**40, -(2**40), 5, 2**32]
    for ts in times:
        head.append(*columns([(0, ts, 1.0)]))
    assert [ts for ts, _ in rows(read(head, [0]).samples)[0]] == sorted(times)


def test_blocks_are_used_again_after_collection(head: Head) -> None:
    for lap in range(20):
        head.append(*columns([(0, lap * 10_000 + ts, 1.0) for ts in range(BLOCK * 50)]))
        snapshot = head.snapshot()
        head.flushed(snapshot)
        assert head.collect(0, 4, lap * 10_000 + 10_000) == 50
    assert head.used_bytes == 0
    assert int(head._chains.pool[0]) == 50


def test_blocks_are_not_used_again_while_somebody_reads(head: Head) -> None:
    head.append(*columns([(0, ts, 1.0) for ts in range(BLOCK * 4)]))
    head.flushed(head.snapshot())
    with head._chains.reading():
        head.collect(0, 4, 10_000)
        assert head.used_bytes > 0
        head.append(*columns([(1, ts, 2.0) for ts in range(BLOCK)]))
        assert int(head._chains.pool[0]) == 5
    head.append(*columns([(2, 0, 1.0)]))
    head.collect(0, 4, 10_000)


def test_what_came_late_and_is_not_stored_stays_in_memory(head: Head) -> None:
    head.append(*columns([(0, ts, 1.0) for ts in range(BLOCK)]))
    head.flushed(head.snapshot())
    head.append(*columns([(0, 5, 2.0)]))
    assert head.collect(0, 4, 10_000) == 0
    snapshot = head.snapshot()
    assert snapshot.late().ts_ms.tolist() == [5]
    head.flushed(snapshot)
    assert head.collect(0, 4, 10_000) == 1


def test_a_stored_series_takes_old_samples_as_late(head: Head) -> None:
    head.widen_stored(np.array([2], np.int32), np.array([100], np.int64), np.array([200], np.int64))
    head.append(*columns([(2, 150, 1.0), (2, 200, 1.0), (2, 201, 1.0)]))
    snapshot = head.snapshot()
    assert snapshot.late().ts_ms.tolist() == [150, 200]
    assert (snapshot.flushed_ms[2], snapshot.upto_ms[2]) == (200, 201)
    assert read(head, [2]).covered_ms.tolist() == [200]


def test_a_full_pool_refuses(head: Head) -> None:
    small = new_head(series=2000, pool_bytes=1)
    small.append(np.arange(1000, dtype=np.int32), np.zeros(1000, np.int64), np.zeros(1000))
    with pytest.raises(StorageUnavailable, match="full"):
        small.append(np.arange(1000, 2000, dtype=np.int32), np.zeros(1000, np.int64), np.zeros(1000))
    small.close()


def test_large_reads_in_parallel_give_the_same(head: Head) -> None:
    for start in range(0, 200_000, 1000):
        ts = np.arange(start, start + 1000, dtype=np.int64)
        for ref in (0, 1, 2):
            head.append(np.full(1000, ref, np.int32), ts, ts.astype(np.float64))
    alone = read(head, [2, 3, 0, 1], 77, 199_000).samples
    parallel = read(head, [2, 3, 0, 1], 77, 199_000, parallel=True).samples
    np.testing.assert_array_equal(alone.ts_ms, parallel.ts_ms)
    np.testing.assert_array_equal(alone.values, parallel.values)
    np.testing.assert_array_equal(alone.offsets, parallel.offsets)


def test_readers_in_other_threads_never_see_half_a_change(head: Head) -> None:
    """Even times are there from the start, odd ones come late, in order of time; old ones are stored and collected meanwhile."""
    size = 20_000
    head.append(np.zeros(size, np.int32), np.arange(0, 2 * size, 2, dtype=np.int64), np.arange(0, 2 * size, 2).astype(np.float64))
    stop = threading.Event()
    wrong: list[str] = []
    done: list[int] = []

    def check() -> None:
        while not stop.is_set():
            found = read(head, [0])
            ts, covered = found.samples.ts_ms, int(found.covered_ms[0])
            if not np.array_equal(found.samples.values, ts.astype(np.float64)):
                wrong.append("values do not belong to their times")
            even = ts[(ts % 2 == 0) & (ts > covered)]
            if not np.array_equal(even, np.arange(max(covered + 2, 0) // 2 * 2, 2 * size, 2)):
                wrong.append(f"samples after {covered} are missing")
            done.append(1)

    readers = [threading.Thread(target=check) for _ in range(2)]
    for reader in readers:
        reader.start()
    for start in range(1, 2 * size, 400):
        ts = np.arange(start, start + 400, 2, dtype=np.int64)
        head.append(np.zeros(len(ts), np.int32), ts, ts.astype(np.float64))
        if start % 2000 == 1:
            head.flushed(head.snapshot())
            head.collect(0, 4, start // 2)
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert done


@given(
    gaps=st.lists(st.lists(st.integers(1, 40), max_size=3 * BLOCK), min_size=1, max_size=4),
    start_ms=st.integers(-50, 3000),
    first_ms=st.integers(0, 3000),
    step_ms=st.integers(1, 500),
    count=st.integers(1, 30),
    parallel=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_thinned_read_holds_the_newest_sample_at_or_before_each_instant(
    gaps: list[list[int]], start_ms: int, first_ms: int, step_ms: int, count: int, parallel: bool
) -> None:
    head = new_head(len(gaps))
    try:
        for ref, row in enumerate(gaps):
            head.append(*columns([(ref, ts, ts / 7) for ts in np.cumsum(row, dtype=np.int64).tolist()]))
        instants = StepGrid(start_ms=first_ms, step_ms=step_ms, count=count)
        bounds = np.array([start_ms], np.int64), np.array([instants.end_ms], np.int64)
        refs = np.arange(len(gaps), dtype=np.int32)
        thinned = head.reader.read(refs, *bounds, instants=instants, parallel=parallel).samples
        thinned.validate()
        for all_rows, some in zip(rows(head.reader.read(refs, *bounds).samples), rows(thinned), strict=True):
            assert set(some) <= set(all_rows)
            for time in instants.times_ms().tolist():
                newest = [max((ts for ts, _ in row if ts <= time), default=None) for row in (all_rows, some)]
                assert newest[0] == newest[1]
    finally:
        head.close()


def test_dense_series_are_thinned_and_counted_as_such(head: Head) -> None:
    head.append(*columns([(ref, ts, 1.0) for ts in range(1, 1001) for ref in range(4)]))
    told: list[tuple[str, int]] = []
    instants = StepGrid(start_ms=100, step_ms=100, count=10)
    bounds = np.array([0], np.int64), np.array([1000], np.int64)
    found = head.reader.read(
        np.arange(4, dtype=np.int32),
        *bounds,
        instants=instants,
        check=lambda count: told.append(("check", count)),
        room=lambda count: told.append(("room", count)),
    )
    assert found.samples.ts_ms.tolist() == [*range(100, 1001, 100)] * 4
    assert told == [("room", 40), ("check", 40)]


def test_empty_cells_of_thinned_series_take_no_memory(head: Head) -> None:
    head.append(*columns([(ref, ts, 1.0) for ts in range(1, 1001) for ref in range(4)]))
    instants = StepGrid(start_ms=100, step_ms=100, count=100)
    bounds = np.array([0], np.int64), np.array([10_000], np.int64)
    samples = head.reader.read(np.array([0, 1, 2, 3], np.int32), *bounds, instants=instants).samples
    assert samples.ts_ms.tolist() == [*range(100, 1001, 100)] * 4
    assert all(column.base is None or column.base.nbytes == column.nbytes for column in (samples.ts_ms, samples.values))


def test_a_deletion_leaves_the_times_that_are_left(head: Head) -> None:
    head.append(*columns([(0, ts, float(ts)) for ts in range(0, 5 * BLOCK * 10, 10)]))
    blocks = head.used_bytes
    head.delete(np.array([0, 1], np.int32), 5, 4 * BLOCK * 10)
    assert [ts for ts, _ in rows(read(head, [0]).samples)[0]] == [0, *range(4 * BLOCK * 10 + 10, 5 * BLOCK * 10, 10)]
    assert head.used_bytes < blocks
    assert (head.unflushed, int(head.first_ms[0])) == (BLOCK, 0)
    head.delete(np.array([0], np.int32), 4 * BLOCK * 10, 5 * BLOCK * 10)
    assert head.newest_ms(slice(2)).tolist() == [0, -(2**63)]
    head.delete(np.array([0], np.int32), -1, 0)
    assert head.newest_ms(slice(1)).tolist() == [-(2**63)]
    assert (head.unflushed, head.used_bytes) == (0, 0)


def test_readers_in_other_threads_see_a_series_before_or_after_a_deletion(head: Head) -> None:
    size, part = 20_000, 200
    head.append(np.zeros(size, np.int32), np.arange(size, dtype=np.int64), np.arange(size).astype(np.float64))
    stop, wrong, done = threading.Event(), list[str](), list[int]()

    def check() -> None:
        while not stop.is_set():
            found = rows(read(head, [0]).samples)[0]
            kept = len(found) % part
            if kept or [ts for ts, _ in found] != list(range(size - len(found), size)):
                wrong.append(f"{len(found)} samples")
            done.append(1)

    readers = [threading.Thread(target=check) for _ in range(2)]
    for reader in readers:
        reader.start()
    for start in range(-1, size - 1, part):
        head.delete(np.zeros(1, np.int32), start, start + part)
        threading.Event().wait(0.001)
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert done
