"""Notifications, asked for and pushed."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from aiohttp import ClientResponse

from promlike.api import notices
from promlike.api.context import Phase
from promlike.api.notices import WAITING, Notices
from tests.api.conftest import Client
from tests.servers import promlike


async def event(answer: ClientResponse) -> Any:
    """The next event of a stream."""
    async with asyncio.timeout(5):
        while True:
            line = await answer.content.readline()
            if line.startswith(b"data: "):
                return orjson.loads(line.removeprefix(b"data: "))
            assert line in (b"\n", b": notifications\n", b":\n"), line


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not become so in five seconds")


async def test_active_notifications_are_listed_at_any_time(client: Client) -> None:
    assert (await client.get("notifications"))["data"] == []
    client.state.notices.set(notices.RELOAD_FAILED)
    client.state.notices.set(notices.RELOAD_FAILED)
    for phase in Phase:
        client.state.phase = phase
        (one,) = (await client.get("notifications"))["data"]
        assert (one["text"], one["active"]) == ("Configuration reload has failed.", True)
        assert one["date"].endswith("Z")
    client.state.notices.set(notices.RELOAD_FAILED, False)
    assert (await client.get("notifications"))["data"] == []


async def test_listeners_get_what_is_active_and_every_change(client: Client) -> None:
    client.state.notices.set(notices.STARTING)
    async with client.session.get(f"{client.url}/api/v1/notifications/live", headers={"Origin": "http://x.org"}) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert (await event(answer))["text"] == notices.STARTING
        client.state.notices.set(notices.STARTING, False)
        ended = await event(answer)
        assert (ended["text"], ended["active"]) == (notices.STARTING, False)
        client.state.notices.set(notices.STOPPING)
        assert (await event(answer))["active"] is True
        client.state.notices.close()
        assert (await answer.content.read()).strip(b"\n") == b""
    assert client.state.notices.listeners == 0


async def test_no_more_may_listen_than_allowed(client: Client) -> None:
    url = f"{client.url}/api/v1/notifications/live"
    answers = [await client.session.get(url) for _ in range(16)]
    status, body, _ = await client.request("GET", "/api/v1/notifications/live")
    assert (status, body) == (204, b"")
    for answer in answers:
        answer.close()
    await until(lambda: client.state.notices.listeners == 0)
    async with client.session.get(url) as answer:
        assert answer.status == 200


def test_a_listener_that_is_too_far_behind_is_let_go() -> None:
    found = Notices()
    with found.listening() as queue:
        for number in range(WAITING + 1):
            found.set(f"{number}")
        told = [queue.get_nowait() for _ in range(queue.qsize())]
    assert told[-1] is None
    assert len(told) == WAITING + 1


def test_a_server_tells_of_a_failed_reload_and_stops_beside_listeners(tmp_path: Path) -> None:
    with promlike(tmp_path, "--web.enable-lifecycle") as server:
        assert server.get("/api/v1/notifications").json()["data"] == []
        (tmp_path / "promlike.yml").write_text("nonsense: 1\n")
        assert server.request("POST", "/-/reload").status == 500
        assert [one["text"] for one in server.get("/api/v1/notifications").json()["data"]] == [notices.RELOAD_FAILED]
        (tmp_path / "promlike.yml").write_text("global: {}\n")
        assert server.request("POST", "/-/reload").status == 200
        assert server.get("/api/v1/notifications").json()["data"] == []
        with server.connection() as connection:
            connection.request("GET", "/api/v1/notifications/live")
            with connection.getresponse() as answer:
                assert answer.readline() == b": notifications\n"
                server.process.terminate()
                lines = answer.read().splitlines()
        assert [orjson.loads(line.removeprefix(b"data: "))["text"] for line in lines if line.startswith(b"data: ")] == [notices.STOPPING]
        assert server.stop() == 0
