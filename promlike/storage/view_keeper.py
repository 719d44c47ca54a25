"""Keeping a store's views for people up to date, beside flushes and never in their way."""

import asyncio
import logging
import time

from promlike.errors import StorageError
from promlike.storage.counters import StorageCounters
from promlike.storage.store import Store

log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 5.0
MOST_BACKOFF_S = 300.0
FINISH_SECONDS = 5.0
"""How long stopping may take for views; what is left is made after the next start."""


class ViewKeeper:
    """Refreshes views after every flush that it is told of, and at the start, for what a crash may have left."""

    def __init__(self, store: Store, counters: StorageCounters) -> None:
        self._store = store
        self._counters = counters
        self._wanted = asyncio.Event()
        self._wanted.set()

    def wake(self) -> None:
        """Views may be behind."""
        self._wanted.set()

    async def run(self) -> None:
        """Refresh whenever woken; try again, ever less often, when the store cannot."""
        backoff_s = 0.0
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._refresh(deadline=None)
                backoff_s = 0.0
            except StorageError as error:
                self._counters.view_failures += 1
                backoff_s = min(max(FIRST_BACKOFF_S, backoff_s * 2), MOST_BACKOFF_S)
                log.warning("views were not brought up to date, next attempt in %.0f s: %s", backoff_s, error)
                await asyncio.sleep(backoff_s)
                self._wanted.set()

    async def finish(self) -> None:
        """Refresh once more before the store closes, for a limited time; the next start makes up for what fails."""
        try:
            await self._refresh(deadline=time.monotonic() + FINISH_SECONDS)
        except StorageError as error:
            log.warning("views were not brought up to date: %s", error)

    async def _refresh(self, *, deadline: float | None) -> None:
        while done := await self._store.refresh_views():
            self._counters.views_refreshed += done
            if deadline is not None and time.monotonic() > deadline:
                log.info("some views are not made yet, the next start goes on with them")
                return
