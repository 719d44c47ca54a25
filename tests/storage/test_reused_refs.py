"""What comes of a ref later is of the series that has it then, and all of it is found.

Deletions name their series by refs, or ids, which must mean the same series when the store carries them out, whatever happens before."""

import asyncio
import shutil

import pytest

from promlike.errors import StorageUnavailable
from promlike.model.blocks import Int32
from promlike.model.exemplars import Exemplars
from promlike.model.matchers import Matcher, MatchOp
from promlike.storage.keep import KeepOptions, KeepRule
from promlike.storage.options import HOUR_MS
from promlike.storage.store import FlushBatch, WalPosition
from promlike.storage.timescale.store import TimescaleStore
from tests.storage.conftest import NOW_MS, Bench, Benches, answer
from tests.storage.test_reclaim import Making, opened
from tests.storage.test_recovery import Delegate


async def delete(bench: Bench, name: str) -> int:
    matchers = [Matcher("instance", MatchOp.EQUAL, name)]
    return await bench.storage.delete_series([matchers], start_ms=-(2**60), end_ms=2**60)


def on(database: str) -> Making:
    """Makes stores of daemons that share a database."""
    return lambda folder: TimescaleStore(database, folder=folder)


async def killed(benches: Benches, bench: Bench, make: Making) -> Bench:
    """What starts on the data folder of a daemon that was killed just now."""
    copy = await asyncio.to_thread(shutil.copytree, bench.folder, bench.folder.with_name(f"{bench.folder.name}-killed"))
    return await opened(benches, make=make, folder=copy)


async def test_what_is_deleted_again_while_a_flush_forgets_it_is_forgotten_by_the_next(benches: Benches, any_store: Making) -> None:
    """It came back meanwhile, so the next flush was told of it. Stored then, it would have its ref still when another was given that."""
    gate, writing = asyncio.Event(), asyncio.Event()
    gate.set()

    class Slow(Delegate):
        async def write(self, batch: FlushBatch) -> None:
            writing.set()
            await gate.wait()
            await self.store.write(batch)

    bench = await opened(benches, wrap=Slow, make=any_store)
    await bench.append([("twice", NOW_MS, 1.0), ("stays", NOW_MS, 1.0)])
    twice = bench.ref("twice")
    await bench.storage.flush()
    await delete(bench, "twice")
    gate.clear()
    writing.clear()
    flushing = asyncio.create_task(bench.storage.flush())
    await asyncio.wait_for(writing.wait(), 10)
    await bench.append([("twice", NOW_MS + 1, 1.0)])
    await delete(bench, "twice")
    gate.set()
    await flushing
    await bench.storage.flush()
    assert (await bench.storage._store.stats()).series == 1
    for _ in range(2):
        await bench.storage.enforce_retention()
    assert bench.storage.counters.series_forgotten == 1
    bench.refs.clear()
    await bench.append([("new", NOW_MS + 2, 3.0)])
    assert bench.ref("new") == twice
    crashed = await killed(benches, bench, any_store)
    assert await crashed.select() == answer({"stays": {NOW_MS: 1.0}, "new": {NOW_MS + 2: 3.0}})


async def test_a_deletion_of_what_another_wrote_hits_that_and_nothing_else_after_a_crash(benches: Benches, database: str) -> None:
    """Series of others have other refs then: here one less stands before them."""
    make = on(database)
    first, second = await opened(benches, make=make), await opened(benches, make=make)
    for i in range(4):
        await first.append([(f"{i}", NOW_MS, float(i))])
        await first.storage.flush()
        await second.storage.follow()
    await second.append([("own", NOW_MS, 9.0)])
    await second.storage.flush()
    assert await delete(second, "2") == 1
    await delete(first, "0")
    await first.storage.flush()
    again = await killed(benches, second, make)
    left = answer({"1": {NOW_MS: 1.0}, "3": {NOW_MS: 3.0}, "own": {NOW_MS: 9.0}})
    assert await again.select() == left
    await again.storage.flush()
    assert await (await opened(benches, make=make)).select() == left


async def test_a_deletion_whose_flush_was_rolled_back_is_carried_out_by_the_next(
    benches: Benches, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a series, too, that another has as well, so that its rows stay."""
    make = on(database)
    first, second = await opened(benches, make=make), await opened(benches, make=make)
    await first.append([("both", NOW_MS, 1.0)])
    await first.storage.flush()
    await second.append([("both", NOW_MS + 1, 2.0)])
    await second.storage.follow()
    await second.storage.flush()
    await delete(second, "both")
    with monkeypatch.context() as patch:

        async def break_off(*_: object) -> None:
            raise StorageUnavailable("the server went away")

        patch.setattr("promlike.storage.timescale.writers.write_position", break_off)
        with pytest.raises(StorageUnavailable):
            await second.storage.flush()
    await second.storage.flush()
    assert await (await opened(benches, make=make)).select() == {}


async def test_a_series_that_comes_back_before_its_blocks_are_dropped_is_found_in_the_store(benches: Benches, any_store: Making) -> None:
    bench = await opened(benches, make=any_store, head_window_ms=1)
    short = KeepRule(matchers=(Matcher("instance", MatchOp.EQUAL, "short"),), keep_ms=HOUR_MS)
    bench.storage.set_keep_options(KeepOptions(default_ms=100 * HOUR_MS, rules=(short,)))
    await bench.append([("short", NOW_MS, 1.0)])
    await bench.storage.flush()
    bench.clock[0] += 2 * HOUR_MS
    await bench.storage.enforce_retention()
    samples = {"short": {bench.clock[0]: 2.0}}
    await bench.append([("short", bench.clock[0], 2.0)])
    await bench.storage.flush()
    await bench.storage._flusher.collect_before(bench.clock[0])
    assert await bench.select() == answer(samples)


async def test_a_series_whose_exemplars_wait_for_a_flush_stays(benches: Benches, any_store: Making) -> None:
    """Else the store would be given exemplars of a series that it was told to forget, and show them as the next one's of that ref."""
    bench = await opened(benches, make=any_store)
    await bench.append([("old", NOW_MS, 1.0)])
    await bench.storage.flush()
    bench.clock[0] += 2 * HOUR_MS
    await bench.storage.append_exemplars(Exemplars.of([(bench.ref("old"), bench.clock[0], 1.0, "{}")]))
    await bench.storage.enforce_retention()
    assert bench.storage._index.alive[bench.ref("old")]
    await bench.storage.flush()


async def test_news_of_others_is_entered_when_it_is_known_what_became_of_a_flush(benches: Benches, plain_database: str) -> None:
    """Else what that flush had seen would take the place of the news, and the next one would look for samples where there are none."""
    failing: list[str] = []

    class Unconfirmed(Delegate):
        async def write(self, batch: FlushBatch) -> None:
            await self.store.write(batch)
            self._lose("write")

        async def load_position(self) -> WalPosition | None:
            self._lose("load_position")
            return await self.store.load_position()

        def _lose(self, name: str) -> None:
            if name in failing:
                failing.remove(name)
                raise StorageUnavailable("the answer was lost")

    make = on(plain_database)
    first, second = await opened(benches, make=make), await opened(benches, make=make, wrap=Unconfirmed)
    await first.append([("other", NOW_MS, 1.0)])
    await first.storage.flush()
    await second.storage.follow()
    await second.append([("own", NOW_MS, 1.0)])
    failing += ["write", "load_position"]
    with pytest.raises(StorageUnavailable):
        await second.storage.flush()
    await first.append([("other", NOW_MS + 1, 2.0)])
    await first.storage.flush()
    await second.storage.follow()
    await second.storage.flush()  # of nothing
    assert second.storage.gauges.flush_problem == ""
    second.clock[0] += 2 * HOUR_MS
    await second.storage.enforce_retention()
    await second.append([("own", second.clock[0], 3.0)])
    await second.storage.flush()
    assert await second.select() == answer({"own": {second.clock[0]: 3.0}})


async def test_a_series_that_another_brings_back_before_the_store_forgot_it_is_seen(benches: Benches, plain_database: str) -> None:
    class Failing(Delegate):
        async def delete_series(self, refs: Int32) -> None:
            raise StorageUnavailable("the server went away")

    make = on(plain_database)
    first, second = await opened(benches, make=make), await opened(benches, make=make, wrap=Failing)
    await first.append([("a", NOW_MS, 1.0)])
    await first.storage.flush()
    await second.storage.follow()
    for bench in (first, second):
        bench.clock[0] += 2 * HOUR_MS
    with pytest.raises(StorageUnavailable):
        await second.storage.enforce_retention()
    assert await second.storage.label_values("instance", [], start_ms=None, end_ms=None) == ([], False)
    samples = {"a": {first.clock[0]: 2.0}}
    await first.append([("a", first.clock[0], 2.0)])
    await first.storage.flush()
    await second.storage.follow()
    assert await second.select() == answer(samples)
    await second.append([("a", first.clock[0] + 1, 3.0)])
    await second.reopen()
    assert await second.select() == answer({"a": samples["a"] | {first.clock[0] + 1: 3.0}})
