"""Runs in the cache that daemons share: what one has evaluated, the others, and itself after a restart, need not.

What may be shared is what every daemon on the database sees alike: what the store has, once that is known here as a whole. So a run goes
there without the steps that look at samples which wait for a flush, or at what is disputed, with the number of the flush after which it
holds; who finds it takes from it the steps that no flush has touched since, under the same conditions on its own side.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from time import monotonic

from promlike.cache.shared import SharedCache
from promlike.model.flushes import StoreView
from promlike.promql.cached.changed import ChangeLog
from promlike.promql.cached.encoded import SharedRun, decode, encode
from promlike.promql.cached.history import StoreHistory
from promlike.promql.cached.planned import Planned, touched
from promlike.promql.cached.run import Run, RunKey

KEEP_S = 86_400.0
"""Shorter than stores know what their flushes changed."""
MOST_WAITING = 64
"""Runs that wait to be written; the oldest ones are left out beyond that."""
MOST_REMEMBERED = 10_000
WORTH = 50
"""A run is written again once it has grown by more than one part in so many: mostly after every flush."""
TRUSTED_S = 600.0
"""How long what was written is believed to be there; Redis may have lost it."""
DECODED_AT_ONCE = 50_000
"""Longer values, in bytes, are decoded in a worker thread."""


@dataclass(slots=True, kw_only=True)
class SharedRunCounters:
    """Totals since the start. `invalid` values were not what was written; of `useless` ones nothing held, or not more than is known."""

    useful: int = 0
    useless: int = 0
    absent: int = 0
    invalid: int = 0
    written: int = 0
    too_large: int = 0
    dropped: int = 0


class SharedRuns:
    """Finds and offers runs. Everything runs on the event loop's thread but for packing and unpacking. `run` does the writing.

    `database` and `fingerprint` tell apart what must not meet. `view()` says how far this process sees what the store has. `now` is a clock
    in seconds.
    """

    def __init__(
        self,
        cache: SharedCache,
        log: ChangeLog,
        history: StoreHistory,
        pool: ThreadPoolExecutor,
        *,
        database: Callable[[], str],
        fingerprint: str,
        view: Callable[[], StoreView],
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.counters = SharedRunCounters()
        self._cache = cache
        self._log = log
        self._history = history
        self._pool = pool
        self._database = database
        self._fingerprint = fingerprint
        self._view = view
        self._now = now
        self._there: OrderedDict[str, tuple[int, int, float]] = OrderedDict()
        self._waiting: OrderedDict[str, SharedRun] = OrderedDict()
        self._some_wait = asyncio.Event()

    async def find(self, plan: Planned) -> Run | None:
        """What others, or this process before, know of a query and what holds here and now."""
        if not self._cache.is_up or self._view().is_changing:
            return None
        key = self._name(plan.key)
        (value,) = await self._cache.get_many([key])
        self._there.pop(key, None)
        if value is None:
            self.counters.absent += 1
            return None
        found = await self._unpacked(key, value)
        if found is None or found.run.step_ms != plan.key.step_ms or found.run.first_ms % plan.key.step_ms != plan.key.phase_ms:
            self.counters.invalid += 1
            return None
        run, view = self._holding(plan, found), self._view()
        if view.flush < found.flush and self._history.token(found.flush) == found.token:
            self._note(key, found.run)  # who left it knows more than this process yet
        elif run is not None:
            self._note(key, run)
        self.counters.useful += run is not None
        self.counters.useless += run is None
        return run

    def _holding(self, plan: Planned, found: SharedRun) -> Run | None:
        """The longest part of it that is what would be evaluated here."""
        view, history = self._view(), self._history
        # A flush that is not known of yet may have touched it.
        if view.is_changing or history.token(found.flush) != found.token or max(view.flush, found.flush) > history.last:
            return None
        last_ms = plan.last_seen_before_ms(view.unflushed_from_ms)
        run = found.run.cut(found.run.first_ms, last_ms)
        gone = [*history.touched_since(min(found.flush, view.flush), plan.reaches), *history.disputed(plan.reaches)]
        return None if run is None else run.without(gone, plan.number)

    def offer(self, plan: Planned, run: Run) -> None:
        """Let others have what is known of a query, as far as it may be shared."""
        view, history = self._view(), self._history
        if view.is_changing or not self._cache.is_up:
            return
        flush = min(view.flush, history.last)
        token = history.token(flush)
        last_ms = plan.last_seen_before_ms(view.unflushed_from_ms)
        part = run.cut(run.first_ms, last_ms) if token is not None else None
        if token is None or part is None:
            return
        key = self._name(plan.key)
        grown = (part.last_ms - part.first_ms) // WORTH
        first_ms, last_ms, noted = self._there.get(key, (part.last_ms, part.first_ms, -TRUSTED_S))
        if self._now() < noted + TRUSTED_S and part.last_ms <= last_ms + grown and part.first_ms >= first_ms - grown:
            return
        # Changes since it was evaluated, and what flushes that are not counted in changed.
        gone = [*touched(plan.reaches, self._log, run.number), *history.touched_since(flush, plan.reaches)]
        part = part.without([*gone, *history.disputed(plan.reaches)], part.number)
        if part is None:
            return
        self._waiting[key] = SharedRun(run=part, flush=flush, token=token)
        self._waiting.move_to_end(key)
        self._note(key, part)
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popitem(last=False)
            self.counters.dropped += 1
        self._some_wait.set()

    async def run(self) -> None:
        """Write what is offered until cancelled."""
        while True:
            await self._some_wait.wait()
            await self.write()

    async def write(self) -> None:
        """Write what was offered."""
        while self._waiting:
            key, shared = self._waiting.popitem(last=False)
            value = await asyncio.get_running_loop().run_in_executor(self._pool, encode, key, shared)
            if value is None:
                self.counters.too_large += 1
            elif await self._cache.set_many({key: value}, ttl_s=KEEP_S):
                self.counters.written += 1
            else:
                self._there.pop(key, None)
                self.counters.dropped += 1
        self._some_wait.clear()

    def _name(self, key: RunKey) -> str:
        digest = blake2b(f"{self._fingerprint} {key!r}".encode("utf-8", "surrogatepass"), digest_size=16)
        return f"range:{self._database()}:{digest.hexdigest()}"

    def _note(self, key: str, run: Run) -> None:
        """Remember which steps are there."""
        self._there[key] = run.first_ms, run.last_ms, self._now()
        self._there.move_to_end(key)
        if len(self._there) > MOST_REMEMBERED:
            self._there.popitem(last=False)

    async def _unpacked(self, key: str, value: bytes) -> SharedRun | None:
        if len(value) <= DECODED_AT_ONCE:
            return decode(key, value)
        return await asyncio.get_running_loop().run_in_executor(self._pool, decode, key, value)
