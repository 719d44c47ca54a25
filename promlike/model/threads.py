"""Threads for long work, which leave the processor to the event loop when there is too much of it."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

NICENESS = 5


def worker_pool(threads: int, name: str) -> ThreadPoolExecutor:
    """A pool whose threads have less priority than the event loop's, so that heavy queries do not keep it from ingestion and small ones."""
    return ThreadPoolExecutor(threads, name, initializer=_be_nice)


def _be_nice() -> None:
    """On Linux every thread has a priority of its own."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


async def to_its_end(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run this in a thread, while the event loop goes on. Who cancels it waits until it is over."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise
