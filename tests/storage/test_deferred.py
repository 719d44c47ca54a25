"""Samples that are read while a query is evaluated."""

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from promlike.errors import SelectionChanged
from promlike.model.blocks import SampleBlock, StepGrid
from promlike.storage.access import SelectRequest
from promlike.storage.deferred import PORTION_SAMPLES
from promlike.storage.head_reader import HeadRead, HeadReader
from promlike.storage.querier import DIRECT_SAMPLES
from tests.storage.conftest import EVERYTHING, NOW_MS, Bench, Benches

SERIES = 500
SAMPLES = 1000
WIDE = SelectRequest(matchers=EVERYTHING, start_ms=NOW_MS - SAMPLES * 1000, end_ms=NOW_MS)


async def filled(benches: Benches, **options: int) -> Bench:
    """SERIES series with SAMPLES samples each, a second apart; every tenth has none in the range of WIDE."""
    bench = await benches(**options)
    refs = np.array([bench.ref(f"{number:03}") for number in range(SERIES)], np.int32)
    for k in range(SAMPLES):
        await bench.storage.append(
            refs[refs % 10 > 0], np.full(SERIES * 9 // 10, NOW_MS - k * 1000), refs[refs % 10 > 0].astype(np.float64)
        )
    await bench.storage.append(refs[::10], np.full(SERIES // 10, NOW_MS - 2_000_000), refs[::10].astype(np.float64))
    return bench


async def test_a_wide_selection_is_read_in_portions_that_together_are_the_whole(benches: Benches) -> None:
    bench = await filled(benches)
    later = (await bench.storage.select([WIDE], max_samples=10**7)).blocks[0]
    now = (await bench.storage.select([SelectRequest(matchers=WIDE.matchers, start_ms=WIDE.start_ms, end_ms=WIDE.end_ms, at_once=True)],
                                      max_samples=10**7)).blocks[0]  # fmt: skip
    assert not isinstance(later.samples, SampleBlock)
    assert isinstance(now.samples, SampleBlock)
    assert later.labels.all_labels() == now.labels.all_labels()
    assert later.samples.series == len(later.labels) == SERIES * 9 // 10
    assert later.samples.count == now.samples.count
    assert later.samples.portion < later.samples.series
    assert later.samples.portion * SAMPLES <= PORTION_SAMPLES
    portions = [later.samples.rows(low, min(low + 7, later.samples.series)) for low in range(0, later.samples.series, 7)]
    for portion in portions:
        portion.validate()
    for found in (portions, [later.samples.whole()]):
        np.testing.assert_array_equal(np.concatenate([block.values for block in found]), now.samples.values)
        np.testing.assert_array_equal(np.concatenate([block.ts_ms for block in found]), now.samples.ts_ms)


async def test_what_an_instant_selector_needs_is_never_deferred(benches: Benches) -> None:
    bench = await filled(benches)
    instants = StepGrid(start_ms=WIDE.start_ms + 1, step_ms=1000, count=SAMPLES)
    request = SelectRequest(matchers=EVERYTHING, start_ms=WIDE.start_ms, end_ms=WIDE.end_ms, instants=instants)
    assert isinstance((await bench.storage.select([request], max_samples=10**7)).blocks[0].samples, SampleBlock)


@pytest.mark.parametrize(
    ("instants", "on_loop"), [(DIRECT_SAMPLES // SERIES, True), (DIRECT_SAMPLES // SERIES + 1, False)], ids=["few", "many"]
)
async def test_only_few_cells_of_instants_are_looked_up_on_the_event_loop(
    benches: Benches, monkeypatch: pytest.MonkeyPatch, instants: int, on_loop: bool
) -> None:
    bench = await filled(benches)
    threads = []

    def read(reader: HeadReader, *args: Any, **options: Any) -> HeadRead:
        threads.append(threading.current_thread())
        return plain(reader, *args, **options)

    plain = HeadReader.read
    monkeypatch.setattr(HeadReader, "read", read)
    grid = StepGrid(start_ms=WIDE.start_ms + 1, step_ms=1000, count=instants)
    await bench.storage.select([replace(WIDE, instants=grid)], max_samples=10**7)
    assert [thread is threading.main_thread() for thread in threads] == [on_loop]


async def test_samples_that_came_late_meanwhile_are_read(benches: Benches) -> None:
    bench = await filled(benches)
    later = (await bench.storage.select([WIDE], max_samples=10**7)).blocks[0]
    await bench.append([("001", NOW_MS - 500, 7.0), ("001", NOW_MS - 1000, 8.0), ("002", NOW_MS + 1000, 9.0)])
    first, second = later.samples.rows(0, 1), later.samples.rows(1, 2)
    assert first.values[-3:].tolist() == [8.0, 7.0, 1.0]
    assert second.ts_ms[-1] == NOW_MS


async def test_samples_that_left_the_head_before_they_were_read_are_missed(benches: Benches) -> None:
    bench = await filled(benches, head_cache_bytes=0, head_window_ms=1)
    later = (await bench.storage.select([WIDE], max_samples=10**7)).blocks[0]
    await bench.storage.flush()
    with pytest.raises(SelectionChanged):
        later.samples.whole()
    again = (await bench.storage.select([WIDE], max_samples=10**7)).blocks[0]
    assert again.samples.whole().count == later.samples.count
