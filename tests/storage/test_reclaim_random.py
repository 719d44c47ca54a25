"""Series come, go, come back and are forgotten, at random, through failures, restarts and crashes: each has its own samples and no others.

The value of a sample names its series, so that one of another is seen wherever it turns up: in samples, rollups and exemplars, also of
queries that run while all of that goes on.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
import pytest

from promlike.errors import SelectionChanged, StorageError, StorageUnavailable
from promlike.model.blocks import Int32
from promlike.model.exemplars import Exemplars
from promlike.model.labels import Labels
from promlike.model.matchers import Matcher, MatchOp
from promlike.model.tiers import ALL_COLUMNS, floor_ms
from promlike.storage.access import Fit, SelectRequest, TierOption
from promlike.storage.keep import KeepOptions, KeepRule
from promlike.storage.options import HOUR_MS
from promlike.storage.store import Store
from promlike.storage.timescale.store import TimescaleStore
from tests.storage.conftest import EVERYTHING, Bench, Benches, answer
from tests.storage.test_reclaim import Making, opened

MINUTE_MS = 60_000
KINDS_MS = {"short": HOUR_MS, "long": 6 * HOUR_MS}
"""How long series are kept, by how their names begin."""
STEPS_MS = (1000, 7 * MINUTE_MS, 20 * MINUTE_MS, 3 * HOUR_MS)
SHARE = 1000
SEEDS = range(*map(int, os.environ.get("PROMLIKE_RANDOM_SEEDS", "0-1").split("-")))
"""`PROMLIKE_RANDOM_SEEDS=0-40 PROMLIKE_RANDOM_STEPS=300` takes a long time, and finds more."""
STEPS = int(os.environ.get("PROMLIKE_RANDOM_STEPS", "120"))
FAILING = ("write", "delete_series", "delete_samples", "delete_before", "write_tiers")


class Unreliable:
    """A store that now and then fails, before or after it did what it was asked to; in a database also before or after a commit."""

    def __init__(self, store: Store, dice: random.Random) -> None:
        self._store = store
        self._dice = dice
        self.odds = 0.0
        if isinstance(store, TimescaleStore):
            self._reliable = store._database.transaction
            store._database.transaction = self._transaction  # type: ignore[method-assign]  # a connection that breaks

    @asynccontextmanager
    async def _transaction(self, what: str, **options: Any) -> AsyncIterator[Any]:
        async with self._reliable(what, **options) as connection:
            yield connection
            if self._dice.random() < self.odds / 2:
                raise StorageUnavailable(f"the connection broke before the commit: {what}")
        if self._dice.random() < self.odds / 2:
            raise StorageUnavailable(f"the connection broke after the commit: {what}")

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in FAILING:
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            for _ in range(self._dice.randrange(3)):
                await asyncio.sleep(0)
            if self._dice.random() < self.odds:
                raise StorageError(f"{name} failed")
            result = await method(*args, **kwargs)
            if self._dice.random() < self.odds:
                raise StorageError(f"the answer to {name} was lost")
            return result

        return call


class Machine:
    """What was acknowledged, beside a storage that was told it."""

    def __init__(self, bench: Bench, dice: random.Random, stores: list[Unreliable]) -> None:
        self.bench = bench
        self.dice = dice
        self.stores = stores
        self.wanted: dict[str, dict[int, float]] = {}
        self.fresh = 0
        self.written = 0
        self.forgotten = 0
        self.prepare()

    def prepare(self) -> None:
        rules = tuple(
            KeepRule(matchers=(Matcher("instance", MatchOp.REGEX, f"{kind}.*"),), keep_ms=keep_ms) for kind, keep_ms in KINDS_MS.items()
        )
        storage = self.bench.storage
        storage.set_keep_options(KeepOptions(default_ms=HOUR_MS, rules=rules))
        storage.ref_use.hold(self)
        storage._retention._reclaimer.least_series, storage._retention._reclaimer.share = 1, 1 << 30
        storage._roller._series_at_once = self.dice.choice([1, 3, 32])

    def held_refs(self) -> Int32:
        """See `RefHolder`."""
        return np.array(list(self.bench.refs.values()), np.int32)

    @property
    def now_ms(self) -> int:
        return self.bench.clock[0]

    def keep_ms(self, name: str) -> int:
        return KINDS_MS[name.partition("-")[0]]

    def visible(self) -> dict[str, dict[int, float]]:
        """What is wanted, without what is too old; nothing becomes young again."""
        for name, rows in list(self.wanted.items()):
            self.wanted[name] = {ts: value for ts, value in rows.items() if ts >= self.now_ms - self.keep_ms(name)}
            if not self.wanted[name]:
                del self.wanted[name]
        return self.wanted

    def pick(self) -> str:
        """A series, new or known."""
        if self.dice.random() < 0.6 or not self.fresh:
            self.fresh += 1
            return f"{self.dice.choice(list(KINDS_MS))}-{self.fresh}"
        number = max(1, self.fresh - self.dice.randrange(40))
        return f"{self.dice.choice(list(KINDS_MS))}-{number}"

    async def append(self) -> None:
        samples: dict[tuple[str, int], float] = {}
        for _ in range(self.dice.randrange(1, 12)):
            name = self.pick()
            late_ms = self.dice.choice([0, 0, 0, self.dice.randrange(self.keep_ms(name) - MINUTE_MS)])
            self.written += 1
            value = owner(name) * SHARE + self.written % SHARE
            samples[name, self.now_ms - late_ms + self.dice.randrange(30) * 1000] = float(value)
        if self.dice.random() < 0.5:
            self.bench.refs.clear()
        await self.bench.append([(name, ts, value) for (name, ts), value in samples.items()])
        for (name, ts), number in samples.items():
            self.wanted.setdefault(name, {})[ts] = number

    async def exemplars(self) -> None:
        rows = [(self.bench.ref(name), self.now_ms, float(owner(name)), "{}") for name in {self.pick() for _ in range(3)}]
        await self.bench.storage.append_exemplars(Exemplars.of(rows))

    async def delete(self) -> None:
        known = list(self.wanted) or ["short-1"]
        names = self.dice.sample(known, min(len(known), self.dice.randrange(1, 6)))
        everything = self.dice.random() < 0.6
        start_ms = -(2**60) if everything else self.now_ms - self.dice.randrange(2 * HOUR_MS)
        end_ms = 2**60 if everything else start_ms + self.dice.randrange(2 * HOUR_MS)
        matchers = [Matcher("instance", MatchOp.REGEX, "|".join(names))]
        await self.bench.storage.delete_series([matchers], start_ms=start_ms, end_ms=end_ms)
        for name in names:
            rows = self.wanted.get(name, {})
            self.wanted[name] = {ts: value for ts, value in rows.items() if not start_ms < ts <= end_ms}

    async def flush(self) -> None:
        with suppress(StorageError):
            await self.bench.storage.flush()

    async def retain(self) -> None:
        with suppress(StorageError):
            await self.bench.storage.enforce_retention()

    async def roll_up(self) -> None:
        with suppress(StorageError):
            await self.bench.storage.roll_up()

    async def drop_blocks(self) -> None:
        await self.bench.storage._flusher.collect_before(self.now_ms)

    async def look(self) -> None:
        """Everything that is found is its series' own."""
        with suppress(SelectionChanged):
            for series, rows in (await self.bench.select()).items():
                values = np.array([bits for _, bits in rows], np.int64).view(np.float64)
                assert set((values // SHARE).tolist()) <= {owner(instance(series))}, series
        await self.look_at_rollups()
        found = await self.bench.storage.exemplars([EVERYTHING], start_ms=-(2**53), end_ms=2**53)
        for each in found.series:
            assert set(each.exemplars.values.tolist()) <= {float(owner(instance(each.labels)))}, each

    async def look_at_rollups(self) -> None:
        for resolution_ms in (300_000, HOUR_MS):
            start_ms, end_ms = floor_ms(self.now_ms - 50 * HOUR_MS, resolution_ms), floor_ms(self.now_ms + HOUR_MS, resolution_ms)
            option = TierOption(
                resolution_ms=resolution_ms, start_ms=start_ms, end_ms=end_ms, columns=ALL_COLUMNS, fit=Fit.EXACT, forced=True
            )
            request = SelectRequest(matchers=EVERYTHING, start_ms=start_ms, end_ms=end_ms, tiers=(option,))
            block = (await self.bench.storage.select([request], max_samples=10**9)).blocks[0]
            if block.tier is None:
                return
            for row, series in enumerate(block.labels.all_labels()):
                rows = block.tier.part(row, row + 1).rows
                seen = rows.counts > 0
                owners = set((rows.mins[seen] // SHARE).tolist()) | set((rows.maxs[seen] // SHARE).tolist())
                assert owners <= {owner(instance(series))}, series

    @property
    def actions(self) -> dict[Callable[[], Awaitable[None]], int]:
        """What may happen, and how often."""
        return {
            self.append: 10,
            self.flush: 6,
            self.retain: 6,
            self.exemplars: 1,
            self.delete: 2,
            self.roll_up: 2,
            self.drop_blocks: 1,
            self.look: 2,
        }

    async def act(self) -> None:
        """Do something, or several things at once."""
        actions = self.actions
        together = self.dice.choices(list(actions), list(actions.values()), k=self.dice.choice([1, 1, 3, 6]))
        # Two that change the same samples at once may come in either order; of retention and rolling up, there is one at a time.
        changing = [action for action in together if action in (self.append, self.delete)][1:]
        await asyncio.gather(*(action() for action in dict.fromkeys(together) if action not in changing))

    async def restart(self) -> None:
        self.forgotten += self.bench.storage.counters.series_forgotten
        for store in self.stores:
            store.odds = 0.0
        if self.dice.random() < 0.7:
            await kill(self.bench)
        await self.bench.reopen()
        self.prepare()
        assert not self.bench.storage.counters.wal_corruptions
        assert not self.bench.storage.counters.replay_unknown_samples

    async def check(self) -> None:
        assert await self.bench.select() == answer(self.visible())
        living = await self.bench.storage.label_values("instance", [], start_ms=None, end_ms=None)
        assert set(living[0]) >= set(self.visible())


async def kill(bench: Bench) -> None:
    """End as a process does that is killed: with nothing flushed."""
    storage = bench.storage
    await storage._wal.drain()
    storage._state = "new"
    await storage.close()


def instance(series: Labels) -> str:
    return dict(series)["instance"]


def owner(name: str) -> int:
    kind, _, number = name.partition("-")
    return 2 * int(number) + list(KINDS_MS).index(kind)


async def run(benches: Benches, making: Making, seed: int, steps: int) -> Machine:
    dice = random.Random(seed)
    stores: list[Unreliable] = []

    def wrap(store: Store) -> Any:
        stores[:] = [Unreliable(store, dice)]
        return stores[0]

    bench = await opened(benches, make=making, wrap=wrap, head_window_ms=1, wal_segment_bytes=4096)
    machine = Machine(bench, dice, stores)
    for step in range(steps):
        stores[0].odds = dice.choice([0.0, 0.0, 0.1, 0.4])
        bench.clock[0] += dice.choice(STEPS_MS)
        await machine.act()
        if dice.random() < 0.06:
            await machine.restart()
        if step % 2:
            await machine.check()
    machine.forgotten += bench.storage.counters.series_forgotten
    stores[0].odds = 0.0
    return machine


@pytest.mark.parametrize("seed", SEEDS)
async def test_series_that_come_and_go_at_random(benches: Benches, any_store: Making, seed: int) -> None:
    machine = await run(benches, any_store, seed, STEPS)
    assert machine.forgotten > 20
    await machine.bench.reopen()
    machine.prepare()
    await machine.check()
