"""From which time on there are samples that the store does not have yet."""

from promlike.model.flushes import FOREVER_MS


class Unflushed:
    """Follows the flushes: what was appended before one begins is stored with it, or waits for the next. On the event loop's thread."""

    __slots__ = ("_flushing_ms", "_waiting_ms")

    def __init__(self) -> None:
        self._waiting_ms = self._flushing_ms = FOREVER_MS

    @property
    def from_ms(self) -> int:
        """No sample before this time is missing in the store."""
        return min(self._waiting_ms, self._flushing_ms)

    def appended(self, oldest_ms: int) -> None:
        """Samples came, the oldest of this time."""
        self._waiting_ms = min(self._waiting_ms, oldest_ms)

    def begun(self) -> None:
        """A flush takes all that came."""
        self._flushing_ms, self._waiting_ms = self.from_ms, FOREVER_MS

    def flushed(self) -> None:
        """It is in the store."""
        self._flushing_ms = FOREVER_MS

    def failed(self) -> None:
        """It is not."""
        self._waiting_ms, self._flushing_ms = self.from_ms, FOREVER_MS
