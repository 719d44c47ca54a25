"""Remote write over HTTP."""

import io
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from promlike.remote_write.handler import write_handler
from promlike.remote_write.receiver import RemoteWriteReceiver
from tests.remote_write import wire, wire2
from tests.remote_write.sink import ListSink

T = 1_700_000_000_000
GOOD = wire.simple("up", [(1.0, T)], job="api")
HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
    "User-Agent": "Prometheus/2.42.0",
}

Client = TestClient[web.Request, web.Application]


class Served:
    def __init__(self, client: Client, sink: ListSink) -> None:
        self.client = client
        self.sink = sink

    async def post(self, data: "bytes | io.BytesIO | AsyncIterator[bytes]", **headers: str) -> tuple[int, str, str]:
        async with self.client.post("/api/v1/write", data=data, headers={**HEADERS, **headers}) as response:
            return response.status, response.content_type, await response.text()


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    sink = ListSink()
    app = web.Application()
    app.router.add_post("/api/v1/write", write_handler(RemoteWriteReceiver(sink, max_decoded_bytes=4 << 20)))
    async with TestClient(TestServer(app)) as client:
        yield Served(client, sink)


async def test_no_content_on_success(served: Served) -> None:
    status, _, text = await served.post(wire.snappy(GOOD))
    assert (status, text) == (204, "")
    assert len(served.sink.rows) == 1


async def test_reason_in_plain_text(served: Served) -> None:
    status, kind, text = await served.post(wire.snappy(wire.series(wire.labels(("job", "x")), wire.sample(1.0, T))))
    assert (status, kind, text) == (400, "text/plain", 'series 0: no metric name in {job="x"}\n')


async def test_body_over_one_mebibyte(served: Served) -> None:
    noise = random.Random(1).randbytes(3 << 20)
    assert (await served.post(io.BytesIO(wire.snappy(GOOD + wire.message(15, noise)))))[0] == 204
    assert len(served.sink.rows) == 1


async def test_chunked_body(served: Served) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        block = wire.snappy(GOOD * 1000)
        for at in range(0, len(block), 100):
            yield block[at : at + 100]

    assert (await served.post(chunks()))[0] == 204
    assert len(served.sink.rows) == 1000


async def test_bodies_over_the_limit(served: Served) -> None:
    assert (await served.post(io.BytesIO(bytes(8 << 20))))[0] == 413

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(128):
            yield bytes(1 << 16)

    status, _, text = await served.post(chunks())
    assert status == 413
    assert text.startswith("the body has more than the ")
    assert (await served.post(wire.varint(1 << 30) + b"\x10hello"))[0] == 413


async def test_empty_and_malformed_bodies(served: Served) -> None:
    assert (await served.post(b""))[0] == 400
    assert (await served.post(b"nonsense"))[0] == 400
    assert (await served.post(wire.snappy(b"")))[0] == 204


async def test_other_formats(served: Served) -> None:
    status, _, text = await served.post(
        wire.snappy(GOOD), **{"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v3.Request"}
    )
    assert status == 415
    assert "supported: application/x-protobuf;proto=prometheus.WriteRequest" in text


V2_GOOD = wire2.request(["", "__name__", "up"], wire2.series([1, 2], wire.sample(1.0, T)))
WRITTEN = [
    ("1.0", wire.snappy(GOOD * 3), "", 204, 3),
    ("2.0", wire.snappy(V2_GOOD), wire2.CONTENT_TYPE, 204, 1),
    ("2.0, nothing", wire.snappy(b""), wire2.CONTENT_TYPE, 204, 0),
    ("2.0, in part", wire.snappy(V2_GOOD + wire2.series([2], wire.sample(1.0, T))), wire2.CONTENT_TYPE, 400, 1),
    ("2.0, malformed", wire.snappy(V2_GOOD + b"\x2a\x7f"), wire2.CONTENT_TYPE, 400, 0),
    ("another", wire.snappy(b""), "text/plain", 415, 0),
]


@pytest.mark.parametrize(("body", "content_type", "status", "samples"), [row[1:] for row in WRITTEN], ids=[row[0] for row in WRITTEN])
async def test_every_answer_says_what_was_written(served: Served, body: bytes, content_type: str, status: int, samples: int) -> None:
    headers = HEADERS | ({"Content-Type": content_type} if content_type else {})
    async with served.client.post("/api/v1/write", data=body, headers=headers) as response:
        assert response.status == status
        written = {
            name: response.headers.getall(f"X-Prometheus-Remote-Write-{name}-Written") for name in ("Samples", "Histograms", "Exemplars")
        }
    assert written == {"Samples": [str(samples)], "Histograms": ["0"], "Exemplars": ["0"]}
    assert len(served.sink.rows) == samples
