"""`/api/v1/metadata` of the same target in a real Prometheus and in promlike, and in promlike after a restart, when the target is gone."""

import asyncio
import time
from pathlib import Path
from typing import Any

from tests.scrape.exporter import OPENMETRICS, exporter
from tests.servers import Server, prometheus, promlike

PAGE = """# HELP a A help.
# TYPE a counter
a_total 1
# TYPE b gauge
# UNIT b_seconds seconds
b 1
# HELP c <c> & "c"
c 1
# EOF
"""
WHOLE = ("", "?metric=a", "?metric=c", "?metric=nothing", "?limit=0", "?limit=-1", "?limit=x", "?limit=1.5", "?metric=a&limit=1")
CUT = ("?limit=1", "?limit=2")
"""Which metrics a limit leaves is chance in Prometheus."""


def answers(server: Server) -> list[Any]:
    found: list[Any] = []
    for params in (*WHOLE, *CUT):
        got = server.get(f"/api/v1/metadata{params}")
        found.append((params, got.status, len(got.json()["data"]) if params in CUT else got.json()))
    return found


def once_scraped(server: Server) -> list[Any]:
    deadline = time.monotonic() + 30
    while not server.data("query", query="a_total")["result"] and time.monotonic() < deadline:
        time.sleep(0.1)
    return answers(server)


async def test_metadata_of_a_scrape(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    async with exporter() as target:
        target.body, target.content_type = PAGE, OPENMETRICS
        static = f'static_configs: [{{targets: ["{target.address}"]}}]'
        config = f"scrape_configs: [{{job_name: j, scrape_interval: 200ms, scrape_timeout: 200ms, {static}}}]"
        with prometheus(theirs, config=config) as server:
            expected = await asyncio.to_thread(once_scraped, server)
        with promlike(ours, config=config) as server:
            assert await asyncio.to_thread(once_scraped, server) == expected
    with promlike(ours) as server:
        assert await asyncio.to_thread(answers, server) == expected


async def test_limit_per_metric(tmp_path: Path) -> None:
    """Which Prometheus 2.42 does not know yet."""
    with promlike(tmp_path) as server:
        got = await asyncio.to_thread(server.get, "/api/v1/metadata?limit_per_metric=x")
        assert (got.status, got.json()["error"]) == (400, "limit_per_metric must be a number")
