"""The seam of second-level caches: what storage and queries may keep where other daemons find it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True, kw_only=True)
class CacheCounters:
    """Totals since the start: `skipped` are the operations that were not tried, because of a failure shortly before."""

    hits: int = 0
    misses: int = 0
    written: int = 0
    failures: int = 0
    skipped: int = 0


class SharedCache(Protocol):
    """Bytes under text keys, which can be lost at any time. No method raises: a failure is a miss. Used from the event loop's thread."""

    counters: CacheCounters

    @property
    def is_up(self) -> bool:
        """False for a while after a failure: nothing is tried then."""
        ...

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of K keys, in their order; None where there is none."""
        ...

    async def set_many(self, items: Mapping[str, bytes], *, ttl_s: float) -> bool:
        """Keep values for so long, unless the cache needs the room earlier; were all of them taken?"""
        ...

    async def delete(self, keys: Sequence[str]) -> bool:
        """Forget keys, whether they are there or not; was that done?"""
        ...

    async def close(self) -> None:
        """Release everything; idempotent."""
        ...
