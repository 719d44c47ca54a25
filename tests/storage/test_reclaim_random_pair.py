"""As `test_reclaim_random.py`, with two daemons on one database: what each is told of its own series holds, and no series has another's.

Each has series of its own, which the other sees, and some that both write, of which only is known whose values they must be.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from promlike.errors import StorageError
from promlike.model.matchers import Matcher, MatchOp
from promlike.storage.store import Store
from tests.storage.conftest import Bench, Benches, answer
from tests.storage.test_reclaim import opened
from tests.storage.test_reclaim_random import SEEDS, STEPS, STEPS_MS, Machine, Unreliable, instance
from tests.storage.test_reused_refs import on

BOTH = 2


class Sharing(Machine):
    """The machine at a place, 0 or 1. The remainder by 3 of a series' number says whose it is."""

    def __init__(self, bench: Bench, dice: random.Random, stores: list[Unreliable], place: int) -> None:
        self.place = place
        super().__init__(bench, dice, stores)

    def mine(self, name: str) -> bool:
        return int(name.partition("-")[2]) % 3 == self.place

    def pick(self) -> str:
        kind, _, number = super().pick().partition("-")
        return f"{kind}-{3 * int(number) + self.dice.choice([self.place, self.place, self.place, BOTH])}"

    async def append(self) -> None:
        await super().append()
        self.wanted = {name: rows for name, rows in self.wanted.items() if self.mine(name)}

    async def delete_shared(self) -> None:
        matchers = [Matcher("instance", MatchOp.EQUAL, f"short-{3 * self.dice.randrange(max(1, self.fresh - 20), self.fresh + 2) + BOTH}")]
        await self.bench.storage.delete_series([matchers], start_ms=-(2**60), end_ms=2**60)

    async def follow(self) -> None:
        with suppress(StorageError):
            await self.bench.storage.follow()

    async def check(self, bench: Bench | None = None) -> None:
        found = await (bench or self.bench).select()
        assert {series: rows for series, rows in found.items() if self.mine(instance(series))} == answer(self.visible())

    @property
    def actions(self) -> dict[Callable[[], Awaitable[None]], int]:
        return super().actions | {self.delete_shared: 1, self.follow: 4}


async def check_what_the_other_sees(machines: list[Sharing]) -> None:
    """Each finds all that the other wrote of its own series, once that is flushed."""
    for machine in machines:
        machine.stores[0].odds = 0.0
        await machine.bench.storage.flush()
    for machine, other in (machines, machines[::-1]):
        await other.bench.storage.follow()
        await machine.check(other.bench)


@pytest.mark.parametrize("seed", SEEDS)
async def test_series_of_two_daemons_that_come_and_go_at_random(benches: Benches, plain_database: str, seed: int) -> None:
    dice = random.Random(seed)
    machines = []
    for place in (0, 1):
        stores: list[Unreliable] = []

        def wrap(store: Store, stores: list[Unreliable] = stores) -> Any:
            stores[:] = [Unreliable(store, dice)]
            return stores[0]

        bench = await opened(benches, make=on(plain_database), wrap=wrap, head_window_ms=1, wal_segment_bytes=4096)
        machines.append(Sharing(bench, dice, stores, place))
    for step in range(STEPS):
        passed_ms = dice.choice(STEPS_MS)
        for machine in machines:
            machine.stores[0].odds = dice.choice([0.0, 0.0, 0.1, 0.4])
            machine.bench.clock[0] += passed_ms
        working = dice.choice([machines, machines[:1], machines[1:]])
        await asyncio.gather(*(machine.act() for machine in working))
        for machine in machines:
            if dice.random() < 0.03:
                await machine.restart()
            if step % 2:
                await machine.check()
        if step % 20 == 19:
            await check_what_the_other_sees(machines)
    assert all(machine.forgotten + machine.bench.storage.counters.series_forgotten for machine in machines)
