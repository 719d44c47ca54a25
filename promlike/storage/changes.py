"""Telling others that what they have read of the past is not so any more."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from promlike.model.blocks import Int32, Int64

Changed = Callable[[Int32, int, int], None]
"""Called with `refs int32[S]` (some may stand there twice) and the times (start_ms, end_ms] in which some of their samples changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subscriber:
    changed: Changed
    settled_ms: int


class Changes:
    """Who is told when samples come, go or get other values in the past. Everything runs on the event loop's thread.

    A subscriber is told once the change can be read, and before anybody awaits. What an answer that is being computed meanwhile has
    read may be older: compare `generation` before and after.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._subscribers: list[_Subscriber] = []
        self.generation = 0
        """How often subscribers were told of something."""

    def subscribe(self, changed: Changed, *, settled_ms: int) -> None:
        """Tell `changed` of samples that come more than `settled_ms` after their time, and of all that go."""
        self._subscribers.append(_Subscriber(changed=changed, settled_ms=settled_ms))

    def appended(self, refs: Int32, ts_ms: Int64) -> None:
        """Samples (int32[N], int64[N]; N > 0) can be read from now on."""
        if not self._subscribers:
            return
        now, oldest = self._now_ms(), int(ts_ms.min())
        for subscriber in self._subscribers:
            settled = now - subscriber.settled_ms
            if oldest <= settled:
                late = ts_ms <= settled
                self._tell(subscriber, refs[late], oldest - 1, int(ts_ms[late].max()))

    def deleted(self, refs: Int32, start_ms: int, end_ms: int) -> None:
        """The samples of `refs int32[S]` in (start_ms, end_ms] cannot be read any more."""
        for subscriber in self._subscribers:
            self._tell(subscriber, refs, start_ms, end_ms)

    def stored_elsewhere(self, refs: Int32, start_ms: int, end_ms: int) -> None:
        """Other daemons stored samples of `refs int32[S]` somewhere in (start_ms, end_ms]; they can be read from now on."""
        for subscriber in self._subscribers:
            self._tell(subscriber, refs, start_ms, end_ms)

    def _tell(self, subscriber: _Subscriber, refs: Int32, start_ms: int, end_ms: int) -> None:
        self.generation += 1
        subscriber.changed(np.ascontiguousarray(refs), start_ms, end_ms)
