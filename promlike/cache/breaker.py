"""A circuit breaker: after a failure nothing is asked for a while, so that a server that is away does not cost every caller its timeout."""

from collections.abc import Callable
from time import monotonic


class Breaker:
    """Open after a failure for `pause_s`, then closed again until the next failure. `now` is a clock in seconds."""

    __slots__ = ("_failed", "_now", "_pause_s", "_until")

    def __init__(self, pause_s: float, now: Callable[[], float] = monotonic) -> None:
        self._pause_s = pause_s
        self._now = now
        self._until = -float("inf")
        self._failed = False

    def is_open(self) -> bool:
        """Is it too early to try again?"""
        return self._now() < self._until

    def failed(self) -> bool:
        """Note a failure; is it the first of an outage?"""
        first = not self._failed
        self._failed = True
        self._until = self._now() + self._pause_s
        return first

    def succeeded(self) -> bool:
        """Note a success; did it end an outage?"""
        ended = self._failed
        self._failed = False
        return ended
