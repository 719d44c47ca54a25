"""Native histograms that a real Prometheus scrapes and sends on: counted and reported as not stored, and nothing beside them is lost."""

import asyncio
import struct
import time
from pathlib import Path

from tests.remote_write.wire import FIXED64, VARINT, message, tag, varint
from tests.scrape.exporter import exporter
from tests.servers import Server, prometheus, promlike

PROTOBUF = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
COUNTER, HISTOGRAM = 0, 4
NAME, TYPE, METRIC = 1, 3, 4
WAIT_SECONDS = 60.0


def number(field: int, value: int) -> bytes:
    return tag(field, VARINT) + varint(value)


def double(field: int, value: float) -> bytes:
    return tag(field, FIXED64) + struct.pack("<d", value)


def family(name: str, kind: int, metric: bytes) -> bytes:
    """A MetricFamily behind its length."""
    body = message(NAME, name.encode()) + number(TYPE, kind) + message(METRIC, metric)
    return varint(len(body)) + body


def page() -> bytes:
    """A counter, and a histogram without classic buckets: schema 3, four observations in two positive buckets, one in the zero bucket."""
    span = message(12, number(1, 0) + number(2, 2))
    deltas = number(13, 2 << 1) + number(13, 0)
    histogram = number(1, 5) + double(2, 6.5) + number(5, 3 << 1) + double(6, 1e-3) + number(7, 1) + span + deltas
    return family("asked_total", COUNTER, message(3, double(1, 7.0))) + family("asked_seconds", HISTOGRAM, message(7, histogram))


def sent(sender: Server, receiver: Server) -> dict[str, float]:
    """Wait until both sides have counted histograms."""
    ours = ("promlike_remote_write_histograms_total", 'promlike_remote_write_rejected_total{reason="native_histogram"}')
    theirs = "prometheus_remote_storage_histograms_failed_total"
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        found = {name: value for text in (sender.get("/metrics").text, receiver.get("/metrics").text) for name, value in numbers(text)}
        told = {name: value for name, value in found.items() if name in ours or name.startswith(theirs)}
        if (len(told) == 3 and all(told.values())) or time.monotonic() > deadline:
            return told
        time.sleep(0.2)


def numbers(text: str) -> list[tuple[str, float]]:
    """The samples of a page in the text format."""
    rows = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return [(name, float(value)) for name, _, value in rows]


async def test_a_sender_is_told_that_histograms_are_not_stored(tmp_path: Path) -> None:
    (there := tmp_path / "there").mkdir()
    async with exporter() as target:
        target.body, target.content_type = page(), PROTOBUF
        with promlike(tmp_path) as receiver:
            config = f"""
scrape_configs:
  - job_name: j
    scrape_interval: 250ms
    scrape_timeout: 250ms
    static_configs: [{{targets: ["{target.address}"]}}]
remote_write:
  - url: {receiver.url}/api/v1/write
    send_native_histograms: true
    queue_config: {{batch_send_deadline: 200ms}}
"""
            with prometheus(there, "--enable-feature=native-histograms", config=config) as sender:
                told = await asyncio.to_thread(sent, sender, receiver)
                log = sender.log
                assert sender.data("query", query="histogram_count(asked_seconds)")["result"][0]["value"][1] == "5"
            assert len(told) == 3
            assert told['promlike_remote_write_rejected_total{reason="native_histogram"}'] >= 1
            assert "native histograms are not stored, only samples that are plain numbers" in log
            found = receiver.data("query", query='{job="j",__name__=~"up|asked.*|scrape_samples_scraped"}')["result"]
            assert {one["metric"]["__name__"]: one["value"][1] for one in found} == {
                "asked_total": "7",
                "up": "1",
                "scrape_samples_scraped": "2",
            }
            assert receiver.log.count("native histograms are not stored") == 1
