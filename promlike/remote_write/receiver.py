"""The receiver of remote write, without HTTP around it."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from logging import getLogger
from typing import Any

import numpy as np

from promlike.errors import BadRequest, NotReady, PayloadTooLarge, RejectReason, StorageUnavailable, UnsupportedMediaType
from promlike.model.blocks import Int32
from promlike.remote_write.decode_v1 import DecoderV1
from promlike.remote_write.decode_v2 import DecoderV2
from promlike.remote_write.decoder import Decoder
from promlike.remote_write.decompress import MAX_DECODED_BYTES
from promlike.remote_write.scan import DecodedWrite
from promlike.remote_write.series_table import SeriesTable
from promlike.storage.access import AppendResult, SampleSink

log = getLogger(__name__)

INLINE_BYTES = 256 << 10
"""Compressed bodies up to this size are decoded in the event loop: handing them to a thread takes longer than decoding does."""

SHOWN_PROBLEMS = 10

MEDIA_TYPE = "application/x-protobuf"
MESSAGES = (DecoderV1.message, DecoderV2.message)
"""The protobuf messages of remote write 1.0 and 2.0."""

NOTHING = AppendResult(appended=0)
HISTOGRAMS_NOT_STORED = "native histograms are not stored, only samples that are plain numbers"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOutcome:
    """The answer to one request: HTTP status, reason as plain text (empty on success), and how many elements storage took."""

    status: HTTPStatus
    text: str = ""
    samples: int = 0
    histograms: int = 0
    exemplars: int = 0


@dataclass(slots=True, kw_only=True)
class ReceiverCounters:
    """What `/metrics` shows, counted since start."""

    requests: Counter[int]
    samples: int = 0
    series: int = 0
    exemplars: int = 0
    histograms: int = 0
    start_timestamps: int = 0
    metadata: int = 0
    bytes: int = 0
    rejected: Counter[RejectReason]
    exemplars_rejected: Counter[RejectReason]
    rejected_by_storage: int = 0


class RemoteWriteReceiver:
    """Takes bodies of remote write 1.0 and 2.0 and hands what they hold to a sink. `messages` are the protobuf messages it reads.

    Valid series of a body are stored even when others of it are refused; the answer is then 400, which tells the sender not to repeat it.
    """

    def __init__(
        self,
        sink: SampleSink,
        *,
        messages: Sequence[str] = MESSAGES,
        max_decoded_bytes: int = MAX_DECODED_BYTES,
        inline_bytes: int = INLINE_BYTES,
    ) -> None:
        self._sink = sink
        self._inline_bytes = inline_bytes
        self._decoders: dict[str, Decoder[Any]] = {
            decoder.message: decoder(sink.series_ref, max_decoded_bytes=max_decoded_bytes)
            for decoder in (DecoderV1, DecoderV2)
            if decoder.message in messages
        }
        self._told: set[str] = set()
        self.max_body_bytes = 32 + max_decoded_bytes + max_decoded_bytes // 6
        self.counters = ReceiverCounters(requests=Counter(), rejected=Counter(), exemplars_rejected=Counter())
        sink.ref_use.hold(self)

    def held_refs(self) -> Int32:
        """See `RefHolder`."""
        return np.concatenate([np.empty(0, np.int32), *(decoder.table.values() for decoder in self._decoders.values())])

    @property
    def known_series(self) -> int:
        """Series that are known without a look at their labels; those that both versions send count twice."""
        return sum(decoder.table.count for decoder in self._decoders.values())

    @property
    def tables(self) -> list[SeriesTable]:
        """What is known of series, by version; for 2.0 of symbols, too."""
        return [table for decoder in self._decoders.values() for table in decoder.tables]

    async def write(self, body: bytes, *, content_type: str = "", content_encoding: str = "") -> WriteOutcome:
        """Decode and store one body; returns when its samples are durable. `content_type` and `content_encoding` as in the headers."""
        with self._sink.ref_use.using():
            outcome = await self._write(body, content_type, content_encoding)
        self.counters.requests[outcome.status] += 1
        return outcome

    async def _write(self, body: bytes, content_type: str, content_encoding: str) -> WriteOutcome:
        self.counters.bytes += len(body)
        try:
            decoder = self._decoders[negotiate(content_type, content_encoding, tuple(self._decoders))]
            await decoder.sweep()
            return await self._store(decoder, await self._decode(decoder, body))
        except UnsupportedMediaType as error:
            return WriteOutcome(status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text=str(error))
        except PayloadTooLarge as error:
            return WriteOutcome(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text=str(error))
        except BadRequest as error:
            return WriteOutcome(status=HTTPStatus.BAD_REQUEST, text=str(error))
        except (NotReady, StorageUnavailable) as error:
            return WriteOutcome(status=HTTPStatus.SERVICE_UNAVAILABLE, text=str(error))

    async def _decode(self, decoder: Decoder[Any], body: bytes) -> DecodedWrite:
        inline = len(body) <= self._inline_bytes
        scan = decoder.scan(body) if inline else await asyncio.to_thread(decoder.scan, body)
        return await decoder.resolve_in_turns(scan)

    async def _store(self, decoder: Decoder[Any], decoded: DecodedWrite) -> WriteOutcome:
        problems = list(decoded.problems)
        try:
            if decoded.metadata:
                await self._sink.set_metadata(decoded.metadata)
            samples, exemplars = await self._append(decoded)
        except (NotReady, StorageUnavailable):
            if decoded.metadata:
                decoder.forget()  # the sender repeats the body, and its series must not be known then, or their metadata were lost
            raise
        if samples.rejected:
            problems.append(_outside(samples, len(decoded.refs), "samples"))
            self.counters.rejected_by_storage += samples.rejected
        if decoded.histograms:
            problems.append(f"{decoded.histograms} {HISTOGRAMS_NOT_STORED}")
            self._tell_once(HISTOGRAMS_NOT_STORED)
        refused = list(decoded.exemplar_problems)
        if exemplars.rejected:
            refused.append(_outside(exemplars, len(decoded.exemplars), "exemplars"))
        if refused and decoder.exemplars_count:
            problems += refused
        elif refused:
            self._tell_once("exemplars are refused, which the answer to remote write 1.0 does not tell", refused[0])
        self._count(decoded)
        return WriteOutcome(
            status=HTTPStatus.BAD_REQUEST if problems else HTTPStatus.NO_CONTENT,
            text=_summary(problems),
            samples=len(decoded.refs) - samples.rejected,
            exemplars=exemplars.appended + exemplars.duplicates,
        )

    async def _append(self, decoded: DecodedWrite) -> tuple[AppendResult, AppendResult]:
        """Samples and exemplars at once, so that they share a write of the log."""
        exemplars = decoded.exemplars
        if not len(exemplars):
            return await self._sink.append(decoded.refs, decoded.ts_ms, decoded.values) if len(decoded.refs) else NOTHING, NOTHING
        if not len(decoded.refs):
            return NOTHING, await self._sink.append_exemplars(exemplars)
        appending = self._sink.append(decoded.refs, decoded.ts_ms, decoded.values)
        samples, kept = await asyncio.gather(appending, self._sink.append_exemplars(exemplars), return_exceptions=True)
        if isinstance(samples, BaseException):
            raise samples
        if isinstance(kept, BaseException):
            raise kept
        return samples, kept

    def _tell_once(self, text: str, example: str = "") -> None:
        """Senders repeat what they do wrong with every request; the counters go on."""
        if text not in self._told:
            self._told.add(text)
            log.warning("remote write: %s; said once, /metrics counts on", text, extra={"example": example} if example else None)

    def _count(self, decoded: DecodedWrite) -> None:
        counters = self.counters
        counters.samples += len(decoded.refs)
        counters.series += decoded.series
        counters.exemplars += len(decoded.exemplars) + decoded.exemplars_rejected.total()
        counters.histograms += decoded.histograms
        counters.start_timestamps += decoded.start_timestamps
        counters.metadata += len(decoded.metadata)
        if decoded.rejected:
            counters.rejected.update(decoded.rejected)
        if decoded.exemplars_rejected:
            counters.exemplars_rejected.update(decoded.exemplars_rejected)
        if decoded.histograms:
            counters.rejected[RejectReason.NATIVE_HISTOGRAM] += decoded.histograms


def negotiate(content_type: str, content_encoding: str, accepted: Sequence[str]) -> str:
    """The protobuf message of a body, from its headers. Absent headers mean remote write 1.0 and snappy.

    Raise UnsupportedMediaType for another compression, or a message that is not `accepted`.
    """
    if content_encoding and content_encoding.strip().lower() != "snappy":
        raise UnsupportedMediaType(f"unsupported Content-Encoding {content_encoding!r}, supported: snappy")
    message = DecoderV1.message
    if content_type and content_type != MEDIA_TYPE:
        header = Message()
        header["Content-Type"] = content_type
        if header.get_content_type() != MEDIA_TYPE:
            raise UnsupportedMediaType(f"unsupported Content-Type {content_type!r}, supported: {MEDIA_TYPE}")
        message = str(header.get_param("proto", message))
    if message not in accepted:
        supported = ", ".join(f"{MEDIA_TYPE};proto={name}" for name in accepted)
        raise UnsupportedMediaType(f"unsupported remote write message {message!r} in Content-Type {content_type!r}, supported: {supported}")
    return message


def _outside(result: AppendResult, count: int, what: str) -> str:
    refusal = f"; the first: {result.refusal}" if result.refusal else ""
    return f"{result.rejected} of {count} {what} have times that storage does not take{refusal}"


def _summary(problems: list[str]) -> str:
    more = len(problems) - SHOWN_PROBLEMS
    return "\n".join(problems[:SHOWN_PROBLEMS] + ([f"and {more} more"] if more > 0 else []))
