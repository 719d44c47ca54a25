"""The receiver of remote write, without HTTP around it."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus

from promlike.errors import BadRequest, NotReady, PayloadTooLarge, RejectReason, StorageUnavailable
from promlike.remote_write.decode_v1 import DecodedWrite, DecoderV1, Scan
from promlike.remote_write.decompress import MAX_DECODED_BYTES
from promlike.storage.store import SampleSink

INLINE_BYTES = 256 << 10
"""Compressed bodies up to this size are decoded in the event loop: handing them to a thread takes longer than decoding does."""

SHOWN_PROBLEMS = 10

MEDIA_TYPE = "application/x-protobuf"
MESSAGE_V1 = "prometheus.WriteRequest"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOutcome:
    """The answer to one request: HTTP status, reason as plain text (empty on success), and how many samples were handed to storage."""

    status: HTTPStatus
    text: str = ""
    samples: int = 0


@dataclass(slots=True, kw_only=True)
class ReceiverCounters:
    """What `/metrics` shows, counted since start."""

    requests: Counter[int]
    samples: int = 0
    series: int = 0
    exemplars: int = 0
    histograms: int = 0
    metadata: int = 0
    bytes: int = 0
    rejected: Counter[RejectReason]
    rejected_by_storage: int = 0


class RemoteWriteReceiver:
    """Takes bodies of remote write 1.0 and hands their samples to a sink.

    Valid series of a body are stored even when others of it are refused; the answer is then 400, which tells the sender not to repeat it.
    """

    def __init__(self, sink: SampleSink, *, max_decoded_bytes: int = MAX_DECODED_BYTES, inline_bytes: int = INLINE_BYTES) -> None:
        self._sink = sink
        self._inline_bytes = inline_bytes
        self._decoder = DecoderV1(sink.series_ref, max_decoded_bytes=max_decoded_bytes)
        self.max_body_bytes = 32 + max_decoded_bytes + max_decoded_bytes // 6
        self.counters = ReceiverCounters(requests=Counter(), rejected=Counter())

    @property
    def known_series(self) -> int:
        """Series whose label bytes are remembered."""
        return self._decoder.table.count

    async def write(self, body: bytes, *, content_type: str = "", content_encoding: str = "") -> WriteOutcome:
        """Decode and store one body; returns when its samples are durable. `content_type` and `content_encoding` as in the headers."""
        outcome = await self._write(body, content_type, content_encoding)
        self.counters.requests[outcome.status] += 1
        return outcome

    async def _write(self, body: bytes, content_type: str, content_encoding: str) -> WriteOutcome:
        unsupported = unsupported_format(content_type, content_encoding)
        if unsupported:
            return WriteOutcome(status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text=unsupported)
        self.counters.bytes += len(body)
        try:
            decoded = await self._decoder.resolve_in_turns(await self._scan(body))
            return await self._store(decoded)
        except PayloadTooLarge as error:
            return WriteOutcome(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text=str(error))
        except BadRequest as error:
            return WriteOutcome(status=HTTPStatus.BAD_REQUEST, text=str(error))
        except (NotReady, StorageUnavailable) as error:
            return WriteOutcome(status=HTTPStatus.SERVICE_UNAVAILABLE, text=str(error))

    async def _scan(self, body: bytes) -> Scan:
        if len(body) <= self._inline_bytes:
            return self._decoder.scan(body)
        return await asyncio.to_thread(self._decoder.scan, body)

    async def _store(self, decoded: DecodedWrite) -> WriteOutcome:
        samples = len(decoded.refs)
        problems = decoded.problems
        if samples:
            result = await self._sink.append(decoded.refs, decoded.ts_ms, decoded.values)
            if result.rejected:
                refusal = f"; the first: {result.refusal}" if result.refusal else ""
                problems = [*problems, f"{result.rejected} of {samples} samples have times that storage does not take{refusal}"]
                self.counters.rejected_by_storage += result.rejected
        if decoded.metadata:
            await self._sink.set_metadata(decoded.metadata)
        self._count(decoded)
        if problems:
            return WriteOutcome(status=HTTPStatus.BAD_REQUEST, text=_summary(problems), samples=samples)
        return WriteOutcome(status=HTTPStatus.NO_CONTENT, samples=samples)

    def _count(self, decoded: DecodedWrite) -> None:
        counters = self.counters
        counters.samples += len(decoded.refs)
        counters.series += decoded.series
        counters.exemplars += decoded.exemplars
        counters.histograms += decoded.histograms
        counters.metadata += len(decoded.metadata)
        if decoded.rejected:
            counters.rejected.update(decoded.rejected)


def unsupported_format(content_type: str, content_encoding: str) -> str:
    """Why this receiver does not read such a body, or "". Absent headers mean remote write 1.0 and snappy."""
    if content_encoding and content_encoding.strip().lower() != "snappy":
        return f"unsupported Content-Encoding {content_encoding!r}, supported: snappy"
    if not content_type or content_type == MEDIA_TYPE:
        return ""
    header = Message()
    header["Content-Type"] = content_type
    if header.get_content_type() != MEDIA_TYPE:
        return f"unsupported Content-Type {content_type!r}, supported: {MEDIA_TYPE}"
    message = header.get_param("proto", MESSAGE_V1)
    if message != MESSAGE_V1:
        return f"unsupported remote write message {message!r} in Content-Type, supported: {MEDIA_TYPE};proto={MESSAGE_V1}"
    return ""


def _summary(problems: list[str]) -> str:
    more = len(problems) - SHOWN_PROBLEMS
    return "\n".join(problems[:SHOWN_PROBLEMS] + ([f"and {more} more"] if more > 0 else []))
