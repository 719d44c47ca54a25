"""How much one query may hold at a time."""

from promlike.errors import TooManySamples, TooMuchMemory

SAMPLE_BYTES = 16
"""Time and value of a raw sample."""
CELL_BYTES = 9
"""Value and presence of one series at one step."""


class Budget:
    """Counts what a query holds and raises before it would hold too much. Values are released in the order of a stack."""

    __slots__ = ("_bytes", "_held", "_max_bytes", "_max_samples", "peak")

    def __init__(self, *, max_samples: int, max_bytes: int) -> None:
        self._max_samples = max_samples
        self._max_bytes = max_bytes
        self._held = 0
        self._bytes = 0
        self.peak = 0

    def hold(self, samples: int, size: int) -> None:
        """Take so many samples and bytes more. Raise TooManySamples or TooMuchMemory, naming what was asked for and the limit."""
        self._held += samples
        self._bytes += size
        if self._held > self._max_samples:
            raise TooManySamples(
                "query processing would load too many samples into memory in query execution: "
                f"{self._held} samples needed, {self._max_samples} allowed"
            )
        if self._bytes > self._max_bytes:
            raise TooMuchMemory(f"query would take too much memory: {self._bytes} bytes needed, {self._max_bytes} allowed")
        self.peak = max(self.peak, self._held)

    def mark(self) -> tuple[int, int]:
        """What is held now, for `release`."""
        return self._held, self._bytes

    def release(self, mark: tuple[int, int]) -> None:
        """Give back everything taken since the mark."""
        self._held, self._bytes = mark
