"""Remote read: another Prometheus, or anything that speaks its protocol, reads raw samples from here."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass

from promlike.errors import BadRequest, StorageUnavailable, TooManySamples
from promlike.model.labels import Labels
from promlike.promql.budget import Budget
from promlike.remote_read.encode import compress, encode_frames, encode_samples, with_external
from promlike.remote_read.request import ReadQueries, ReadQuery, ResponseType, decode_request, without_external
from promlike.storage.access import Queryable, SelectRequest, SeriesBlock

SAMPLES_TYPE = "application/x-protobuf"
FRAMES_TYPE = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteReadOptions:
    """Limits, 0 for none: samples of an answer that is sent at once, requests that are answered at the same time, bytes of a frame.

    `max_samples`: what a query of a streamed answer may load, which is in memory while its frames are sent.
    """

    sample_limit: int = 50_000_000
    concurrent_limit: int = 10
    max_bytes_in_frame: int = 1 << 20
    max_samples: int = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadAnswer:
    """The body in parts, made when they are asked for. Iterate to the end or close it: it takes one of the places that are allowed."""

    content_type: str
    content_encoding: str
    parts: AsyncGenerator[bytes, None]


class RemoteRead:
    """Answers requests from `source`; `external_labels()` are the labels of this server now, `new_budget()` is what one query may load."""

    def __init__(
        self, source: Queryable, options: RemoteReadOptions, external_labels: Callable[[], Labels], new_budget: Callable[[], Budget]
    ) -> None:
        self._source = source
        self._new_budget = new_budget
        self._options = options
        self._external_labels = external_labels
        self._places = asyncio.Semaphore(options.concurrent_limit) if options.concurrent_limit else None

    def answer(self, body: bytes) -> ReadAnswer:
        """The answer to a request; samples are fetched while its parts are asked for. Raises BadRequest."""
        request = decode_request(body)
        if request.response_type is ResponseType.SAMPLES:
            return ReadAnswer(content_type=SAMPLES_TYPE, content_encoding="snappy", parts=self._samples(request))
        return ReadAnswer(content_type=FRAMES_TYPE, content_encoding="", parts=self._frames(request))

    async def _samples(self, request: ReadQueries) -> AsyncGenerator[bytes, None]:
        async with AsyncExitStack() as stack:
            if self._places is not None:
                await stack.enter_async_context(self._places)
            limit = self._options.sample_limit
            parts = []
            left = limit
            for query in request.queries:
                with closing(self._new_budget()) as budget:
                    try:
                        block = await self._select(query, left if limit else 2**62, budget)
                    except TooManySamples as error:
                        raise BadRequest(f"exceeded sample limit ({limit})") from error
                    left -= block.samples.count
                    parts.append(await asyncio.to_thread(encode_samples, block))
            yield await asyncio.to_thread(compress, parts)

    async def _frames(self, request: ReadQueries) -> AsyncGenerator[bytes, None]:
        async with AsyncExitStack() as stack:
            if self._places is not None:
                await stack.enter_async_context(self._places)
            for number, query in enumerate(request.queries):
                with closing(self._new_budget()) as budget:
                    block = await self._select(query, self._options.max_samples, budget)
                    frames = encode_frames(block, number, self._options.max_bytes_in_frame)
                    while part := await asyncio.to_thread(_next, frames):
                        yield part

    async def _select(self, query: ReadQuery, max_samples: int, budget: Budget) -> SeriesBlock:
        """The series of a query as blocks, with this server's labels."""
        external = self._external_labels()
        request = SelectRequest(
            matchers=without_external(query.matchers, external), start_ms=query.start_ms - 1, end_ms=query.end_ms, at_once=True
        )
        selection = await self._source.select([request], max_samples=max_samples, loading=budget)
        if selection.warnings:
            raise StorageUnavailable(selection.warnings[0])  # the protocol cannot say that something is missing
        block = selection.blocks[0]
        return SeriesBlock(labels=with_external(block.labels, external), samples=block.samples) if external else block


def _next(frames: Iterator[bytes]) -> bytes:
    """The next part, empty at the end: StopIteration does not pass through a thread."""
    return next(frames, b"")
