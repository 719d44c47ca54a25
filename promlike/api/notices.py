"""Notifications of the server about itself, and who listens to them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

STARTING = "Prometheus is starting and replaying the write-ahead log (WAL)."
STOPPING = "Prometheus is shutting down and gracefully stopping all operations."
RELOAD_FAILED = "Configuration reload has failed."
STORE_FAILS = "The store does not take samples; they wait in the write-ahead log until it does."

WAITING = 64
"""So many changes wait for a listener; one that is further behind is let go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One notification; `date` is when it began, or ended once it is not active any more."""

    text: str
    date: str
    active: bool = True


class Notices:
    """What is active now. Used on the event loop only."""

    def __init__(self) -> None:
        self._active: dict[str, Notice] = {}
        self._queues: set[asyncio.Queue[Notice | None]] = set()

    def active(self) -> list[Notice]:
        return list(self._active.values())

    @property
    def listeners(self) -> int:
        return len(self._queues)

    def set(self, text: str, active: bool = True) -> None:
        """Begin or end a notification; listeners hear of a change."""
        if active == (text in self._active):
            return
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        if active:
            notice = self._active[text] = Notice(text=text, date=now)
        else:
            notice = replace(self._active.pop(text), date=now, active=False)
        self._tell(notice)

    def close(self) -> None:
        """Let all listeners go."""
        self._tell(None)

    @contextmanager
    def listening(self) -> Iterator[asyncio.Queue[Notice | None]]:
        """A queue with what is active and every change; None means the end."""
        queue: asyncio.Queue[Notice | None] = asyncio.Queue()
        for notice in self._active.values():
            queue.put_nowait(notice)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)

    def _tell(self, notice: Notice | None) -> None:
        for queue in self._queues:
            queue.put_nowait(notice if queue.qsize() < WAITING else None)
