"""How much queries may hold at a time: each of them, and all together."""

from collections.abc import Callable
from threading import Lock

from promlike.errors import MemoryInUse, QueryCancelled, TooManySamples, TooMuchMemory

SAMPLE_BYTES = 16
"""Time and value of a raw sample."""
CELL_BYTES = 9
"""Value and presence of one series at one step."""
STRAINED = 8
"""A pool of which this part is taken is strained, until half as much is."""


class MemoryPool:
    """What all queries together may hold, in bytes. From any thread.

    `told(True)` is called when the pool becomes strained, so that memory is worth more than time, and `told(False)` when it is no more.
    """

    __slots__ = ("_lock", "_strained", "max_bytes", "peak_bytes", "told", "used_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._lock = Lock()
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self.peak_bytes = 0
        self.told: Callable[[bool], None] | None = None
        self._strained = False

    @property
    def free_bytes(self) -> int:
        return self.max_bytes - self.used_bytes

    def take(self, size: int, held: int) -> None:
        """Hand out bytes to a query that holds so many already. Raise MemoryInUse when others leave too few, TooMuchMemory when even
        alone it could not have them.
        """
        taken = False
        with self._lock:
            if self.used_bytes + size <= self.max_bytes:
                self.used_bytes += size
                self.peak_bytes = max(self.peak_bytes, self.used_bytes)
                taken = True
            others = self.used_bytes - held
        if taken:
            self._tell()
            return
        if held + size > self.max_bytes:
            raise TooMuchMemory(
                f"query would take too much memory: {held + size} bytes needed, {self.max_bytes} allowed for all queries together"
            )
        raise MemoryInUse(
            f"query would take too much memory now: {held + size} bytes needed, {others} of the {self.max_bytes} allowed for all queries"
            " together are in use",
            needed=held + size,
        )

    def lease(self, size: int) -> "Lease":
        """Bytes for what outlives a query. Raises as `take`."""
        self.take(size, 0)
        return Lease(self, size)

    def give(self, size: int) -> None:
        with self._lock:
            self.used_bytes -= size
        self._tell()

    def _tell(self) -> None:
        """Not under the lock: who is told may make objects, the collector may come by, and take a lease away that wants the lock."""
        strained = self.used_bytes > self.max_bytes // (2 * STRAINED if self._strained else STRAINED)
        if strained is not self._strained:
            self._strained = strained
            if self.told is not None:
                self.told(strained)


class Lease:
    """Bytes of a pool that are given back when this object goes: it is kept beside what it counts."""

    __slots__ = ("_pool", "size")

    def __init__(self, pool: MemoryPool, size: int) -> None:
        self._pool = pool
        self.size = size

    def shrink(self, size: int) -> None:
        """Keep no more than so many bytes."""
        if size < self.size:
            self._pool.give(self.size - size)
            self.size = size

    def __del__(self) -> None:
        self._pool.give(self.size)


class Budget:
    """Counts what a query holds and raises before it would hold too much. Values are released in the order of a stack.

    A `Loading`: what a source is about to load counts before it is there. `close` at the end; used by one thread at a time.
    """

    __slots__ = ("_closed", "_held", "_loading", "_lock", "_max_bytes", "_max_samples", "_pool", "bytes", "peak", "peak_bytes")

    def __init__(self, *, max_samples: int, max_bytes: int, pool: MemoryPool | None = None) -> None:
        self._max_samples = max_samples
        self._max_bytes = max_bytes
        self._pool = pool if pool is not None else MemoryPool(max_bytes)
        self._lock = Lock()
        self._closed = False
        self._held = 0
        self._loading = 0
        self.bytes = 0
        """Held now."""
        self.peak = 0
        """The most samples that were held at a time."""
        self.peak_bytes = 0

    def hold(self, samples: int, size: int) -> None:
        """Take so many samples and bytes more. Raise TooManySamples or TooMuchMemory, naming what was asked for and the limit; MemoryInUse
        when other queries leave too little.
        """
        if self._held + samples > self._max_samples:
            raise TooManySamples(
                "query processing would load too many samples into memory in query execution: "
                f"{self._held + samples} samples needed, {self._max_samples} allowed"
            )
        self._take(size)
        self._held += samples
        self.peak = max(self.peak, self._held)

    def load(self, size: int) -> None:
        """See `Loading.load`."""
        if size > self._loading:
            self._take(size - self._loading)
        else:
            self._give(self._loading - size)
        self._loading = size

    def room(self) -> int:
        """See `Loading.room`."""
        return self._loading + min(self._max_bytes - self.bytes, self._pool.free_bytes)

    def loaded(self) -> None:
        """What was loaded is held as such from now on, or was let go of."""
        self._give(self._loading)
        self._loading = 0

    def mark(self) -> tuple[int, int]:
        """What is held now, for `release`."""
        return self._held, self.bytes

    def release(self, mark: tuple[int, int]) -> None:
        """Give back everything taken since the mark."""
        self._held = mark[0]
        self._give(self.bytes - mark[1])

    def lease(self, size: int) -> Lease:
        """Bytes for the result, which outlives the budget. Raises as `hold`."""
        self._take(size)
        with self._lock:
            self.bytes -= size
            return Lease(self._pool, size)

    def clear(self) -> None:
        """Give back everything, to begin again."""
        self._held = self._loading = 0
        self._give(self.bytes)

    def close(self) -> None:
        """Give back everything; who still works for the query, because nobody could tell it, ends when it wants more. Idempotent."""
        with self._lock:
            self._closed = True
        self.clear()

    def _take(self, size: int) -> None:
        with self._lock:
            if self._closed:
                raise QueryCancelled("query was canceled in expression evaluation")
            if self.bytes + size > self._max_bytes:
                raise TooMuchMemory(f"query would take too much memory: {self.bytes + size} bytes needed, {self._max_bytes} allowed")
            self._pool.take(size, self.bytes)
            self.bytes += size
            self.peak_bytes = max(self.peak_bytes, self.bytes)

    def _give(self, size: int) -> None:
        with self._lock:
            self._pool.give(size)
            self.bytes -= size
