"""Threads for long work, which leave the processor to the event loop when there is too much of it."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

NICENESS = 5


def worker_pool(threads: int, name: str) -> ThreadPoolExecutor:
    """A pool whose threads have less priority than the event loop's, so that heavy queries do not keep it from ingestion and small ones."""
    return ThreadPoolExecutor(threads, name, initializer=_be_nice)


def _be_nice() -> None:
    """On Linux every thread has a priority of its own."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
