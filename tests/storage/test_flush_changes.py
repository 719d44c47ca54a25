"""What a flush says that it changed, and from when on samples wait for one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promlike.model.blocks import Int32, Int64, SampleBlock
from promlike.model.flushes import FOREVER_MS, StoredChange, StoreView, decode_changes, encode_changes
from promlike.storage.flush_changes import MOST_METRICS, USUAL_DELAY_MS, ChangeCollector
from promlike.storage.head_kernels import MIN_TIME
from promlike.storage.head_snapshot import LateSamples
from promlike.storage.unflushed import Unflushed
from tests.storage.conftest import NOW_MS, Benches
from tests.storage.store_suite import chunk, deletion


def spans(refs: Int32, first_ms: Int64, last_ms: Int64) -> list[tuple[str, int, int]]:
    """Series 10 to 19 are of metric m1, and so on."""
    found: dict[str, tuple[int, int]] = {}
    for ref, first, last in zip(refs.tolist(), first_ms.tolist(), last_ms.tolist(), strict=True):
        known = found.get(f"m{ref // 10}", (first, last))
        found[f"m{ref // 10}"] = min(known[0], first), max(known[1], last)
    return [(metric, *times) for metric, times in found.items()]


def late(rows: list[tuple[int, int]]) -> LateSamples:
    rows = sorted(set(rows))
    return LateSamples(
        refs=np.array([ref for ref, _ in rows], np.int32), ts_ms=np.array([ts for _, ts in rows], np.int64), values=np.zeros(len(rows))
    )


def test_what_is_young_is_one_change_and_what_is_older_is_told_by_metric() -> None:
    collector = ChangeCollector(spans, NOW_MS)
    usual = NOW_MS - USUAL_DELAY_MS
    collector.chunk(*_columns({10: [usual + 5, usual + 900], 20: [usual - 7, usual + 3], 21: [usual - 9], 30: []}))
    collector.late(late([(11, usual - 70), (11, usual - 60), (12, usual + 1)]))
    collector.deleted([deletion([20, 40], 5, 9)])
    assert set(collector.changes()) == {
        StoredChange(metric=None, start_ms=usual, end_ms=usual + 900),
        StoredChange(metric="m2", start_ms=usual - 10, end_ms=usual),
        StoredChange(metric="m1", start_ms=usual - 71, end_ms=usual + 1),
        StoredChange(metric="m2", start_ms=5, end_ms=9),
        StoredChange(metric="m4", start_ms=5, end_ms=9),
    }


def _columns(samples: dict[int, list[int]]) -> tuple[Int32, SampleBlock]:
    made = chunk({ref: [(ts, 0.0) for ts in times] for ref, times in samples.items()})
    return made.refs, made.samples


def test_a_first_flush_is_one_change_of_its_times() -> None:
    collector = ChangeCollector(spans, MIN_TIME)
    collector.chunk(*_columns({10: [5, 9], 20: [3]}))
    assert collector.changes() == (StoredChange(metric=None, start_ms=2, end_ms=9),)
    assert ChangeCollector(spans, MIN_TIME).changes() == ()


def test_too_many_metrics_are_not_told_apart() -> None:
    collector = ChangeCollector(spans, NOW_MS)
    collector.late(late([(10 * metric, metric) for metric in range(MOST_METRICS + 1)]))
    assert collector.changes() == (StoredChange(metric=None, start_ms=-1, end_ms=MOST_METRICS),)


SAMPLES = st.lists(st.tuples(st.integers(0, 39), st.integers(NOW_MS - 300_000, NOW_MS)), max_size=20)


@given(SAMPLES, SAMPLES)
def test_every_sample_is_in_some_change(new: list[tuple[int, int]], overdue: list[tuple[int, int]]) -> None:
    collector = ChangeCollector(spans, NOW_MS - 30_000)
    by_ref: dict[int, list[int]] = {}
    for ref, ts in sorted(set(new)):
        by_ref.setdefault(ref, []).append(ts)
    if by_ref:
        collector.chunk(*_columns(by_ref))
    collector.late(late(overdue))
    changes = decode_changes(encode_changes(collector.changes()))
    for ref, ts in (*new, *overdue):
        assert any(change.metric in (None, f"m{ref // 10}") and change.start_ms < ts <= change.end_ms for change in changes)


def test_what_came_before_a_flush_waits_until_it_is_stored() -> None:
    unflushed = Unflushed()
    assert unflushed.from_ms == FOREVER_MS
    unflushed.appended(50)
    unflushed.begun()
    unflushed.appended(70)
    assert unflushed.from_ms == 50
    unflushed.flushed()
    assert unflushed.from_ms == 70
    unflushed.begun()
    unflushed.appended(90)
    unflushed.failed()
    assert unflushed.from_ms == 70
    unflushed.begun()
    unflushed.flushed()
    assert unflushed.from_ms == FOREVER_MS


async def test_storage_says_how_far_the_store_has_what_is_seen(benches: Benches) -> None:
    bench = await benches()
    await bench.append([("a", NOW_MS - 50, 1.0), ("b", NOW_MS - 20, 1.0)])
    assert bench.storage.view == StoreView(flush=0, unflushed_from_ms=NOW_MS - 50)
    await bench.storage.flush()
    assert bench.storage.view == StoreView(flush=1, unflushed_from_ms=FOREVER_MS)
    await bench.append([("a", NOW_MS - 70, 1.0)])
    assert await bench.storage.delete_series([[]], start_ms=NOW_MS - 100, end_ms=NOW_MS - 60)
    assert bench.storage.view == StoreView(flush=1, unflushed_from_ms=NOW_MS - 70, is_changing=True)
    await bench.storage.flush()
    assert bench.storage.view == StoreView(flush=2, unflushed_from_ms=FOREVER_MS)
    (record,) = (await bench.storage.flushes(1)).records
    assert [change.metric for change in record.changes] == ["up"]
