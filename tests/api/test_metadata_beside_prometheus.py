"""`/api/v1/metadata` of the same target in a real Prometheus and in promlike, and in promlike after a restart, when the target is gone."""

import asyncio
import json
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


DISAGREEING = (
    "# HELP same Same.\n# TYPE same gauge\nsame 1\n# HELP m One.\n# TYPE m gauge\nm 1\n",
    "# HELP same Same.\n# TYPE same gauge\nsame 1\n# HELP m Other.\n# TYPE m counter\nm 1\n# TYPE only summary\nonly_count 1\n",
)
SAME = {"type": "gauge", "help": "Same.", "unit": ""}
ONE = {"type": "gauge", "help": "One.", "unit": ""}
OTHER = {"type": "counter", "help": "Other.", "unit": ""}
OF_TARGETS = (
    "",
    "?metric=m",
    "?metric=same",
    "?metric=none",
    '?match_target={target="1"}',
    '?match_target={target="1"}&metric=m',
    "?limit=0",
)


def of_disagreeing(server: Server) -> dict[str, list[str]]:
    """What does not depend on order, which is chance in Prometheus."""
    deadline = time.monotonic() + 30
    while len(server.data("query", query="m")["result"]) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    known = server.get("/api/v1/metadata").json()["data"]
    found = {name: [json.dumps(entry) for entry in entries] for name, entries in known.items()}
    for params in OF_TARGETS:
        found[params] = [json.dumps(entry) for entry in server.get(f"/api/v1/targets/metadata{params}").json()["data"]]
    found["some"] = [str(len(server.get("/api/v1/targets/metadata?limit=4").json()["data"]))]
    return {name: sorted(entries) for name, entries in found.items()}


async def test_targets_that_disagree(tmp_path: Path) -> None:
    (theirs := tmp_path / "theirs").mkdir()
    (ours := tmp_path / "ours").mkdir()
    async with exporter() as first, exporter() as second:
        first.body, second.body = DISAGREEING
        targets = [f'{{targets: ["{one.address}"], labels: {{target: "{number}"}}}}' for number, one in enumerate((first, second))]
        config = f"scrape_configs: [{{job_name: j, scrape_interval: 200ms, scrape_timeout: 200ms, static_configs: [{', '.join(targets)}]}}]"
        with prometheus(theirs, config=config) as server:
            expected = await asyncio.to_thread(of_disagreeing, server)
        with promlike(ours, config=config) as server:
            assert await asyncio.to_thread(of_disagreeing, server) == expected
            data = (await asyncio.to_thread(server.get, "/api/v1/metadata?limit_per_metric=1")).json()["data"]
            assert data == {"same": [SAME], "m": [ONE], "only": [{"type": "summary", "help": "", "unit": ""}]}
            assert (await asyncio.to_thread(server.get, "/api/v1/metadata?metric=m")).json()["data"] == {"m": [ONE, OTHER]}
            got = await asyncio.to_thread(server.get, "/api/v1/metadata?limit_per_metric=x")
            assert (got.status, got.json()["error"]) == (400, "limit_per_metric must be a number")
    assert {*expected["m"]} == {json.dumps(ONE), json.dumps(OTHER)}
