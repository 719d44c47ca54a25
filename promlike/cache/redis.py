"""A second-level cache in Redis, shared by all daemons that name the same one.

Nothing here raises: Redis being away, slow or full makes every look-up a miss. What is kept there can be lost at any time.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from promlike.cache.breaker import Breaker
from promlike.cache.shared import CacheCounters
from promlike.errors import BadRequest
from promlike.model.url import shown_url

log = logging.getLogger(__name__)

T = TypeVar("T")

KEYS_AT_ONCE = 1000
"""More keys go in several commands, so that none keeps Redis, which does one thing at a time, from others for long."""

MOST_CONNECTIONS = 8


class RedisCache:
    """A SharedCache.

    `prefix` stands before every key. An operation that takes longer than `timeout_s` has failed, and after a failure none is tried for
    `pause_s`.
    """

    def __init__(self, url: str, *, prefix: str = "promlike:", timeout_s: float = 0.25, pause_s: float = 5.0) -> None:
        """Raises BadRequest when the URL is none of Redis; does not connect."""
        self.counters = CacheCounters()
        self._name = shown_url(url)
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._breaker = Breaker(pause_s)
        try:
            # Our own timeout covers connecting and waiting for a connection, too.
            self._redis: Redis = Redis.from_url(url, max_connections=MOST_CONNECTIONS, retry=None)
        except ValueError as error:
            raise BadRequest(f"{self._name!r} is not a URL of Redis: {error}") from error
        self._places = asyncio.Semaphore(MOST_CONNECTIONS)

    @property
    def is_up(self) -> bool:
        """See `SharedCache.is_up`."""
        return not self._breaker.is_open()

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """See `SharedCache.get_many`."""
        found: list[bytes | None] = []
        for low in range(0, len(keys), KEYS_AT_ONCE):
            part = [self._prefix + key for key in keys[low : low + KEYS_AT_ONCE]]
            values = await self._guarded(partial(self._redis.mget, part))
            found += cast("list[bytes | None]", values) if values is not None else [None] * len(part)
        hits = sum(value is not None for value in found)
        self.counters.hits += hits
        self.counters.misses += len(found) - hits
        return found

    async def set_many(self, items: Mapping[str, bytes], *, ttl_s: float) -> bool:
        """See `SharedCache.set_many`."""
        entries = list(items.items())
        for low in range(0, len(entries), KEYS_AT_ONCE):
            pipe = self._redis.pipeline(transaction=False)
            for key, value in entries[low : low + KEYS_AT_ONCE]:
                pipe.set(self._prefix + key, value, px=max(int(ttl_s * 1000), 1))
            if await self._guarded(pipe.execute) is None:
                return False
        self.counters.written += len(entries)
        return True

    async def delete(self, keys: Sequence[str]) -> bool:
        """See `SharedCache.delete`."""
        for low in range(0, len(keys), KEYS_AT_ONCE):
            part = [self._prefix + key for key in keys[low : low + KEYS_AT_ONCE]]
            if await self._guarded(partial(self._redis.delete, *part)) is None:
                return False
        return True

    async def close(self) -> None:
        """See `SharedCache.close`."""
        await self._redis.aclose()

    async def _guarded(self, operation: Callable[[], Awaitable[T]]) -> T | None:
        """The outcome of an operation, None when it failed or was not tried."""
        if self._breaker.is_open():
            self.counters.skipped += 1
            return None
        try:
            async with asyncio.timeout(self._timeout_s), self._places:
                outcome = await operation()
        except (RedisError, OSError, TimeoutError) as error:
            self.counters.failures += 1
            if self._breaker.failed():
                log.warning("the cache %s is away, going on without it: %s", self._name, str(error) or type(error).__name__)
            return None
        if self._breaker.succeeded():
            log.info("the cache %s is back", self._name)
        return outcome
