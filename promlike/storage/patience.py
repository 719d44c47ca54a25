"""Asking a store that may be away or hang: every question ends, and while there is no answer few are asked."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from promlike.errors import StoreAway
from promlike.storage.store import Store

T = TypeVar("T")

DOUBT_S = 1.0
"""After waiting so long for an answer we look whether the store is there at all, and again after so long."""

RETRY_S = 1.0
"""So long after the store was found to be away it is not asked again; then one question at a time tries."""


class Patience:
    """Runs questions to a store. One that works, however long it takes, is waited for; one that does not answer is not."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._away = ""
        """Why the store is away; not the error itself, which would hold what the question held."""
        self._away_at = 0.0
        self._trying = False
        self._abandoned: set[asyncio.Task[Any]] = set()

    async def ask(self, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer. Raises StoreAway within seconds when the store is away, at once when that is known."""
        trying = bool(self._away)
        if trying:
            if self._trying or time.monotonic() < self._away_at + RETRY_S:
                raise StoreAway(self._away)
            self._trying = True
        try:
            answer = await self._answer(question())
        except StoreAway as error:
            self._away, self._away_at = str(error) or type(error).__name__, time.monotonic()
            raise
        finally:
            if trying:
                self._trying = False
        self._away = ""
        return answer

    async def _answer(self, question: Coroutine[Any, Any, T]) -> T:
        asking = asyncio.ensure_future(question)
        try:
            try:
                while not (await asyncio.wait([asking], timeout=DOUBT_S))[0]:
                    await self._store.ping()
            except BaseException:
                self._abandon(asking)
                raise
            return asking.result()
        finally:
            del asking  # the traceback of its error holds this frame, which must not hold the error

    def _abandon(self, asking: asyncio.Task[Any]) -> None:
        """Cancel a question, but do not wait until that has worked: with a server that hangs it takes long."""

        def ended(task: asyncio.Task[Any]) -> None:
            self._abandoned.discard(task)
            if not task.cancelled():
                task.exception()

        self._abandoned.add(asking)
        asking.add_done_callback(ended)
        asking.cancel()
