"""The shared cache against a real Redis, which is killed and comes back."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from promlike.cache.redis import KEYS_AT_ONCE, RedisCache
from promlike.cache.shared import CacheCounters
from promlike.errors import BadRequest
from tests.cache.redis_server import RedisServer, redis_server


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@asynccontextmanager
async def connected(url: str, *, prefix: str = "test:", timeout_s: float = 2.0, pause_s: float = 0.05) -> AsyncIterator[RedisCache]:
    cache = RedisCache(url, prefix=prefix, timeout_s=timeout_s, pause_s=pause_s)
    try:
        yield cache
    finally:
        await cache.close()
        await cache.close()


async def test_what_was_set_is_got_in_the_order_of_the_keys(server: RedisServer) -> None:
    async with connected(server.url) as cache:
        assert await cache.set_many({"a": b"1", "b": b"\x00\xff"}, ttl_s=60)
        assert await cache.get_many(["b", "none", "a"]) == [b"\x00\xff", None, b"1"]
        assert await cache.delete(["a", "none"])
        assert await cache.get_many(["a"]) == [None]
        assert cache.counters == CacheCounters(hits=2, misses=2, written=2)


async def test_caches_of_other_prefixes_do_not_meet(server: RedisServer) -> None:
    async with connected(server.url, prefix="one:") as one, connected(server.url, prefix="two:") as two:
        await one.set_many({"key": b"1"}, ttl_s=60)
        assert await two.get_many(["key"]) == [None]


async def test_values_are_forgotten_after_their_time(server: RedisServer) -> None:
    async with connected(server.url) as cache:
        await cache.set_many({"key": b"1"}, ttl_s=0.02)
        await asyncio.sleep(0.1)
        assert await cache.get_many(["key"]) == [None]


async def test_more_keys_than_one_command_takes(server: RedisServer) -> None:
    items = {str(number): str(number).encode() for number in range(2 * KEYS_AT_ONCE + 1)}
    async with connected(server.url) as cache:
        assert await cache.set_many(items, ttl_s=60)
        assert await cache.get_many(list(items)) == list(items.values())
        assert await cache.delete(list(items))
        assert set(await cache.get_many(list(items))) == {None}


async def test_no_keys_are_no_command(server: RedisServer) -> None:
    async with connected(server.url) as cache:
        assert await cache.get_many([]) == []
        assert await cache.set_many({}, ttl_s=60)
        assert await cache.delete([])


async def test_redis_away_is_a_miss_counted_and_told_once_an_outage(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with connected(server.url) as cache:
        await cache.set_many({"key": b"1"}, ttl_s=60)
        server.kill()
        with caplog.at_level(logging.INFO, "promlike.cache"):
            for _ in range(3):
                assert await cache.get_many(["key"]) == [None]
                assert not await cache.set_many({"key": b"2"}, ttl_s=60)
                assert not await cache.delete(["key"])
                await asyncio.sleep(0.06)
            assert len(caplog.records) == 1
            assert "is away" in caplog.text
            server.start()
            await asyncio.sleep(0.06)
            assert await cache.set_many({"key": b"3"}, ttl_s=60)
            assert await cache.get_many(["key"]) == [b"3"]
            assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert cache.counters.failures == 3
    assert cache.counters.skipped == 6


async def test_nothing_is_tried_shortly_after_a_failure(server: RedisServer) -> None:
    async with connected(server.url, pause_s=60) as cache:
        server.kill()
        await cache.get_many(["key"])
        assert not cache.is_up
        server.start()
        assert not await cache.set_many({"key": b"1"}, ttl_s=60)
        assert cache.counters == CacheCounters(misses=1, failures=1, skipped=1)


async def test_a_server_that_does_not_answer_costs_the_timeout_and_no_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with connected(f"redis://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.05, pause_s=60) as cache:
            assert await cache.get_many(["key"]) == [None]
            assert cache.counters.failures == 1


async def test_a_cancelled_caller_leaves_the_cache_usable(server: RedisServer) -> None:
    async with connected(server.url) as cache:
        await cache.set_many({"key": b"1", "other": b"2"}, ttl_s=60)
        for rounds in range(20):
            task = asyncio.create_task(cache.get_many(["other"]))
            for _ in range(rounds):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await cache.get_many(["key"]) == [b"1"]


async def test_many_callers_share_few_connections(server: RedisServer) -> None:
    async with connected(server.url) as cache:
        await cache.set_many({"key": b"1"}, ttl_s=60)
        assert await asyncio.gather(*(cache.get_many(["key"]) for _ in range(200))) == [[b"1"]] * 200


async def test_a_password_is_used_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server("open-sesame") as server:
        async with connected(server.url) as cache:
            assert await cache.set_many({"key": b"1"}, ttl_s=60)
        async with connected(server.url.replace("open", "closed")) as cache:
            assert await cache.get_many(["key"]) == [None]
    assert ":***@" in caplog.text
    assert "sesame" not in caplog.text


def test_what_is_no_url_of_redis_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"'http://:\*\*\*@host' is not a URL of Redis"):
        RedisCache("http://:secret@host")
