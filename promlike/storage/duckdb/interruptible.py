"""A read that stops when nobody waits for it any more."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import duckdb

AGAIN_S = 0.05
"""An interruption that comes between two statements is lost, so it is repeated as long as the read goes on."""


class Interruptible:
    """What reads, in one thread, and who may interrupt it, on the event loop."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._interrupted = False

    @contextmanager
    def reading(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Around statements on a cursor. Raises duckdb.InterruptException when the read was interrupted before."""
        with self._lock:
            if self._interrupted:
                raise duckdb.InterruptException("interrupted before it began")
            self._cursor = cursor
        try:
            yield
        finally:
            with self._lock:
                self._cursor = None

    def interrupt(self) -> None:
        """Stop the statement that runs, and those that would follow it."""
        with self._lock:
            self._interrupted = True
            if self._cursor is None:
                return
            self._cursor.interrupt()
        asyncio.get_running_loop().call_later(AGAIN_S, self.interrupt)
