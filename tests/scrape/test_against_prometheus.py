"""The same bodies, scraped by a real Prometheus and by us, give the same series and values."""

import asyncio
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from promlike.config.load import parse_config
from promlike.scrape.service import ScrapeService
from tests.remote_write.sink import ListSink
from tests.scrape.exporter import OPENMETRICS, TEXT, Exporter, exporter
from tests.servers import Server, node_exporter, prometheus

STRANGE = r"""# HELP strange Everything the text format allows.
# TYPE strange gauge
strange 1
strange{} 2
strange{a="b"}<TAB>3
strange { a = "c" , b = "d" , } 4
strange{a="\"\\\n\x",b="}{,=#"} 5
strange{a=""} 6
strange{empty="",a="日本"} 7
strange{instance="mine",job="mine",exported_job="theirs"} 8
strange:colon_9 9
numbers{n="1"} +1.5e-7
numbers{n="2"} -.5
numbers{n="3"} 5.
numbers{n="4"} NaN
numbers{n="5"} +Inf
numbers{n="6"} -inf
numbers{n="7"} 0.1234567890123456789
numbers{n="8"} 1.7976931348623157e+308
numbers{n="9"} 4.9e-324
numbers{n="10"} 123456789012345678901234567890
numbers{n="11"} 9007199254740993
numbers{n="12"} -0
# TYPE h histogram
h_bucket{le="0.5"} 1
h_bucket{le="+Inf"} 2
h_sum 1.25
h_count 2
dropped 5
renamed{x="y"} 6
""".replace("<TAB>", "\t")

OPEN = """# HELP requests Requests.
# TYPE requests counter
# UNIT requests_seconds seconds
requests_total{code="200"} 5 # {trace="a\\"b"} 1 123.5
requests_created{code="200"} 1.7e9
# TYPE size histogram
size_bucket{le="1.0"} 1
size_bucket{le="+Inf"} 1
size_count 1
size_sum 0.5
# EOF
"""

JOB = """
  - job_name: NAME
    metrics_path: /PAGE
    scrape_interval: 200ms
    scrape_timeout: 200ms
    honor_labels: HONOR
    static_configs:
      - targets: ["ADDRESS"]
        labels: {room: attic}
    relabel_configs:
      - {source_labels: [__address__, room], regex: "(.*):\\\\d+;(.*)", target_label: place, replacement: "$2-${1}"}
      - {source_labels: [__address__], modulus: 1000, target_label: hash, action: hashmod}
    metric_relabel_configs:
      - {source_labels: [__name__], regex: dropped, action: drop}
      - {source_labels: [__name__, x], regex: "renamed;(.)", target_label: __name__, replacement: "new_$1"}
      - {regex: x, action: labeldrop}
"""

PAGES = ("strange", "open", "node")
JOBS = {f"{page}-{honor}": (page, honor) for page in PAGES for honor in ("true", "false")}

# How long a scrape took differs, and the series it added are those of whichever scrape was the last one.
NOT_COMPARED = {"scrape_duration_seconds", "scrape_series_added"}

Found = dict[frozenset[tuple[str, str]], str]


def settings(target: Exporter) -> str:
    return "scrape_configs:" + "".join(
        JOB.replace("NAME", name).replace("PAGE", page).replace("HONOR", honor).replace("ADDRESS", target.address)
        for name, (page, honor) in JOBS.items()
    )


def shown(value: float) -> str:
    return "NaN" if math.isnan(value) else repr(value)


async def ours(target: Exporter) -> Found:
    sink = ListSink()
    service = ScrapeService(parse_config(settings(target), file="x.yml"), sink)
    task = asyncio.create_task(service.run())
    async with asyncio.timeout(10):
        while sum(found.last_scrape_ms is not None for found in service.active_targets()) < len(JOBS):  # noqa: ASYNC110  # nothing to wait on
            await asyncio.sleep(0.01)
    await service.close()
    await task
    return {frozenset(labels): shown(float(np.array([bits], np.uint64).view(np.float64)[0])) for labels, _, bits in sink.rows}


def theirs(server: Server) -> Found:
    """Prometheus looks for new targets every five seconds."""
    deadline = time.monotonic() + 30
    while len(server.data("query", query="up == 1")["result"]) < len(JOBS) and time.monotonic() < deadline:
        time.sleep(0.2)
    found: list[dict[str, Any]] = server.data("query", query='{place=~".+"}')["result"]
    return {frozenset(series["metric"].items()): shown(float(series["value"][1])) for series in found}


async def test_scrapes_store_what_prometheus_stores(tmp_path: Path) -> None:
    async with exporter() as target:
        with node_exporter(tmp_path) as source:
            node = source.get("/metrics").body
        target.pages = {"/strange": (STRANGE, TEXT), "/open": (OPEN, OPENMETRICS), "/node": (node, TEXT)}
        with prometheus(tmp_path, config=settings(target)) as server:
            expected = await asyncio.to_thread(theirs, server)
        found = await ours(target)
    assert len(found) > 600
    assert found.keys() == expected.keys()
    differing = {labels: (found[labels], expected[labels]) for labels in found if found[labels] != expected[labels]}
    assert not {labels: values for labels, values in differing.items() if dict(labels)["__name__"] not in NOT_COMPARED}
