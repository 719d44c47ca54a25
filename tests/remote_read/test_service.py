"""Places and partial answers, over a source that says what it holds."""

import asyncio
from collections.abc import Sequence

import cramjam
import numpy as np
import pytest

from promlike.errors import BadRequest, PromlikeError, StorageUnavailable
from promlike.model.blocks import SampleBlock
from promlike.model.frame import LabelFrame, SymbolScope
from promlike.model.trace import OFF, Trace
from promlike.promql.budget import Budget, MemoryPool
from promlike.remote_read.pb.remote_read_pb2 import ReadRequest, ReadResponse
from promlike.remote_read.service import RemoteRead, RemoteReadOptions
from promlike.storage.access import Loading, Selection, SelectRequest, SeriesBlock


def request(*kinds: ReadRequest.ResponseType) -> bytes:
    asked = ReadRequest(accepted_response_types=kinds)
    asked.queries.add()
    return bytes(cramjam.snappy.compress_raw(asked.SerializeToString()))


SAMPLES, CHUNKS = request(), request(ReadRequest.STREAMED_XOR_CHUNKS)


class Source:
    """One series with one sample; waits while `gate` is closed."""

    def __init__(self, *warnings: str) -> None:
        self.warnings = warnings
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0

    async def select(
        self, requests: Sequence[SelectRequest], *, max_samples: int, loading: Loading | None = None, trace: Trace = OFF
    ) -> Selection:
        self.asked += 1
        if loading is not None:
            loading.load(16)
        await self.gate.wait()
        labels = LabelFrame.from_labels([(("__name__", "up"),)], SymbolScope())
        samples = SampleBlock(ts_ms=np.array([5]), values=np.array([1.0]), offsets=np.array([0, 1]))
        return Selection(symbols=labels.symbols, blocks=[SeriesBlock(labels=labels, samples=samples)], warnings=self.warnings)


def reader(source: Source, places: int = 1, pool: MemoryPool | None = None) -> RemoteRead:
    memory = pool or MemoryPool(1 << 20)
    options = RemoteReadOptions(concurrent_limit=places)
    return RemoteRead(source, options, lambda: (), lambda: Budget(max_samples=100, max_bytes=1 << 20, pool=memory))


async def body(remote: RemoteRead, asked: bytes) -> bytes:
    return b"".join([part async for part in remote.answer(asked).parts])


@pytest.mark.parametrize("asked", [SAMPLES, CHUNKS])
async def test_a_part_is_not_given_for_the_whole(asked: bytes) -> None:
    with pytest.raises(StorageUnavailable, match="the store is away"):
        await body(reader(Source("the store is away")), asked)


async def test_requests_beyond_the_allowed_number_wait_for_a_place() -> None:
    source = Source()
    source.gate.clear()
    remote = reader(source)
    waiting = [asyncio.create_task(body(remote, SAMPLES)) for _ in range(3)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert source.asked == 1
    waiting[0].cancel()  # a place is given back in any case
    source.gate.set()
    answers = await asyncio.gather(*waiting[1:])
    assert source.asked == 3
    found = ReadResponse.FromString(bytes(cramjam.snappy.decompress_raw(answers[0])))
    assert found.results[0].timeseries[0].samples[0].timestamp == 5


async def test_no_limit_lets_all_in() -> None:
    source = Source()
    source.gate.clear()
    remote = reader(source, places=0)
    waiting = [asyncio.create_task(body(remote, CHUNKS)) for _ in range(20)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert source.asked == 20
    source.gate.set()
    assert len(set(await asyncio.gather(*waiting))) == 1


def test_a_bad_request_is_told_at_once() -> None:
    with pytest.raises(BadRequest, match="malformed"):
        reader(Source()).answer(b"nonsense")


@pytest.mark.parametrize("asked", [SAMPLES, CHUNKS])
async def test_what_is_loaded_counts_with_the_memory_of_all_queries_and_is_given_back(asked: bytes) -> None:
    pool = MemoryPool(16)
    for _ in range(3):
        assert await body(reader(Source(), pool=pool), asked)
        assert pool.free_bytes == 16
    with pytest.raises(PromlikeError):
        await body(reader(Source(), pool=MemoryPool(15)), asked)
