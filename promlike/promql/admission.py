"""Which queries may run: so many at a time, so many may wait, and those that found too little memory run again when others are done."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from time import monotonic

from promlike.errors import Overloaded, QueryTimeout
from promlike.promql.budget import MemoryPool
from promlike.promql.options import Deadline

LOOK_AGAIN_SECONDS = 0.02
"""Memory is given back by worker threads, so somebody who waits for it looks from time to time."""


class Admission:
    """Everything runs on the event loop's thread."""

    def __init__(self, *, max_concurrency: int, max_queued: int, pool: MemoryPool) -> None:
        self._max_concurrency = max_concurrency
        self._places = asyncio.Semaphore(max_concurrency)
        self._max_queued = max_queued
        self._pool = pool
        self._retrying = asyncio.Lock()
        self.queued = 0
        """Queries that wait for a place."""

    @asynccontextmanager
    async def place(self, deadline: Deadline) -> AsyncIterator[ExitStack]:
        """A place to run in, after those who came before. What is yielded gives the place back; who needs it longer calls `pop_all`.

        Raises Overloaded when too many wait already, QueryTimeout past the deadline.
        """
        await self._enter(deadline)
        with ExitStack() as stack:
            stack.callback(self._places.release)
            yield stack

    async def _enter(self, deadline: Deadline) -> None:
        if self._places.locked() and self.queued >= self._max_queued:
            raise Overloaded(f"too many queries: {self._max_concurrency} run and {self.queued} wait already, which is all that may")
        self.queued += 1
        try:
            async with asyncio.timeout(deadline.at - monotonic()):
                await self._places.acquire()
        except TimeoutError as error:
            raise QueryTimeout("query timed out in query queue") from error
        finally:
            self.queued -= 1

    @asynccontextmanager
    async def memory(self, needed: int, deadline: Deadline) -> AsyncIterator[None]:
        """Wait until so many bytes are free, one query at a time. Raises QueryTimeout past the deadline."""
        try:
            async with asyncio.timeout(deadline.at - monotonic()):
                await self._retrying.acquire()
        except TimeoutError as error:
            raise QueryTimeout("query timed out waiting for memory that other queries hold") from error
        try:
            while self._pool.free_bytes < needed:
                deadline.check()
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
            yield
        finally:
            self._retrying.release()
