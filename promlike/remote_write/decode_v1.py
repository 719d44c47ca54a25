"""Remote write 1.0: a snappy block of protobuf into columns of samples.

Two steps: `scan` walks the wire and may run in any thread; `resolve` asks for the refs of series not seen before, in the event loop's
thread. Bytes that the walk leaves alone (groups, fields in an unusual order, unknown fields inside a series) are parsed by the protobuf
classes and walked again in the order those write; so they alone decide what is malformed.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from google.protobuf.message import DecodeError

from promlike.errors import BadRequest, RejectReason, SampleRejected
from promlike.model.blocks import Float64, Int32, Int64
from promlike.model.labels import Labels
from promlike.remote_write import kernels
from promlike.remote_write.decompress import MAX_DECODED_BYTES, decoded_size, decompress_into
from promlike.remote_write.kernels import PADDING, Bytes, walk
from promlike.remote_write.pb.remote_write_v1_pb2 import MetricMetadata, WriteRequest
from promlike.remote_write.series_labels import parse_labels
from promlike.remote_write.series_table import SeriesTable
from promlike.storage.store import Metadata

KEEP_SCRATCH_BYTES = 8 << 20
KEPT_SCRATCHES = 4

TURN_SECONDS = 0.002
"""How long new series may keep the event loop before others get their turn."""


@dataclass(slots=True, eq=False)
class Scratch:
    """Arrays that a scan fills, used again by later scans so that their pages stay mapped."""

    body: Bytes
    refs: Int32
    ts_ms: Int64
    values: Float64
    spans: Int64
    counts: Int64

    @classmethod
    def for_body(cls, size: int) -> "Scratch":
        scratch = cls(
            body=np.empty(0, np.uint8),
            refs=np.empty(0, np.int32),
            ts_ms=np.empty(0, np.int64),
            values=np.empty(0),
            spans=np.empty((0, 4), np.int64),
            counts=np.zeros(kernels.COUNTS, np.int64),
        )
        scratch.fit_body(size)
        # A sample has 9 bytes at least unless it is zero, and then comes with the labels of its series.
        scratch.fit_rows(size // 16 + 64)
        return scratch

    @property
    def held_bytes(self) -> int:
        return len(self.body) + 52 * len(self.refs)

    def fit_body(self, size: int) -> None:
        if len(self.body) < size + PADDING:
            self.body = np.empty(size + PADDING, np.uint8)

    def fit_rows(self, rows: int) -> None:
        if len(self.refs) < rows:
            self.refs = np.empty(rows, np.int32)
            self.ts_ms = np.empty(rows, np.int64)
            self.values = np.empty(rows)
            self.spans = np.empty((rows, 4), np.int64)

    def load(self, data: bytes) -> None:
        """Put an already decoded body in."""
        self.fit_body(len(data))
        self.body[: len(data)] = np.frombuffer(data, np.uint8)


@dataclass(slots=True, kw_only=True, eq=False)
class Scan:
    """A body walked; its unseen series are not resolved yet. `resolve` or `discard` takes its arrays back."""

    scratch: Scratch
    samples: int
    spans: int
    series: int
    exemplars: int
    histograms: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedWrite:
    """N samples ready for a SampleSink: `refs int32[N]`, `ts_ms int64[N]`, `values float64[N]`, in the body's order.

    `problems` says, one text a series, which series were refused; `rejected` counts their samples.
    """

    refs: Int32
    ts_ms: Int64
    values: Float64
    metadata: list[Metadata]
    series: int
    exemplars: int
    histograms: int
    problems: list[str] = field(default_factory=list)
    rejected: Counter[RejectReason] = field(default_factory=Counter)


Steps = Generator[None, None, DecodedWrite]
"""Work on the event loop's thread that may rest at every yield."""


class DecoderV1:
    """Decodes bodies against one table of series. `series_ref` gives the ref of checked, sorted labels, or raises SampleRejected."""

    def __init__(self, series_ref: Callable[[Labels], int], *, max_decoded_bytes: int = MAX_DECODED_BYTES) -> None:
        self._series_ref = series_ref
        self._max_decoded_bytes = max_decoded_bytes
        self.table = SeriesTable(seed=np.uint64(int.from_bytes(os.urandom(8))))
        self._scratches: list[Scratch] = []
        self._making = asyncio.Lock()

    def decode(self, body: bytes) -> DecodedWrite:
        """`scan` and `resolve` in one."""
        return self.resolve(self.scan(body))

    def scan(self, body: bytes) -> Scan:
        """Unpack and walk a body. Raise PayloadTooLarge or BadRequest; nothing of a malformed body is taken."""
        size = decoded_size(body, self._max_decoded_bytes)
        scratch = self._take_scratch(size)
        try:
            decompress_into(body, scratch.body, size)
            return self._walk(scratch, size)
        except BadRequest:
            self._give_back(scratch)
            raise

    def resolve(self, scan: Scan) -> DecodedWrite:
        """Look up series not seen before and read metadata. Raise BadRequest when these bytes are malformed; then no series is made."""
        steps = self._resolve(scan)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return _decoded(done)

    async def resolve_in_turns(self, scan: Scan) -> DecodedWrite:
        """`resolve` on the event loop: a body of many new series lets others work in between, one such body at a time."""
        steps = self._resolve(scan)
        try:
            next(steps)
            async with self._making:
                while True:
                    await asyncio.sleep(0)
                    next(steps)
        except StopIteration as done:
            return _decoded(done)
        finally:
            steps.close()

    def _resolve(self, scan: Scan) -> Steps:
        """The steps of `resolve`; each yield is a place where it may rest."""
        scratch = scan.scratch
        try:
            n = scan.samples
            refs, ts_ms, values = scratch.refs[:n], scratch.ts_ms[:n], scratch.values[:n]
            if scratch.held_bytes <= KEEP_SCRATCH_BYTES:  # larger ones are not used again
                refs, ts_ms, values = refs.copy(), ts_ms.copy(), values.copy()
            if not scan.spans:
                return DecodedWrite(
                    refs=refs,
                    ts_ms=ts_ms,
                    values=values,
                    metadata=[],
                    series=scan.series,
                    exemplars=scan.exemplars,
                    histograms=scan.histograms,
                )
            return (yield from self._resolve_spans(scan, refs, ts_ms, values))
        finally:
            self._give_back(scratch)

    def discard(self, scan: Scan) -> None:
        """Take the arrays of a scan back unused."""
        self._give_back(scan.scratch)

    def _walk(self, scratch: Scratch, size: int) -> Scan:
        status = self._run(scratch, size)
        if status == kernels.ODD:
            size = self._rewrite(scratch, size)
            status = self._run(scratch, size)
        if status != kernels.OK:
            raise BadRequest(self._malformed(scratch, size))
        counts = scratch.counts
        return Scan(
            scratch=scratch,
            samples=int(counts[kernels.SAMPLES]),
            spans=int(counts[kernels.SPANS]),
            series=int(counts[kernels.SERIES]),
            exemplars=int(counts[kernels.EXEMPLARS]),
            histograms=int(counts[kernels.HISTOGRAMS]),
        )

    def _run(self, scratch: Scratch, size: int) -> int:
        """Walk `scratch.body[:size]`, with more room when the columns were too short; the status is never FULL."""
        scratch.body[size : size + PADDING] = 0
        arrays = self.table.arrays
        counts = scratch.counts
        while True:
            counts[kernels.ENTRY] = arrays.last
            walk(
                scratch.body,
                size,
                arrays.slots,
                arrays.entries,
                arrays.used,
                arrays.arena,
                self.table.seed,
                scratch.refs,
                scratch.ts_ms,
                scratch.values.view(np.uint64),
                scratch.spans,
                counts,
            )
            arrays.last = int(counts[kernels.ENTRY])
            if counts[kernels.STATUS] != kernels.FULL:
                return int(counts[kernels.STATUS])
            scratch.fit_rows(size // 2 + 64)

    def _rewrite(self, scratch: Scratch, size: int) -> int:
        """Parse with the protobuf classes, write the fields in order without unknown ones, return the new size."""
        try:
            message = WriteRequest.FromString(scratch.body[:size].tobytes())
        except DecodeError as error:
            raise BadRequest(self._malformed(scratch, size)) from error
        message.DiscardUnknownFields()
        data = message.SerializeToString()
        scratch.load(data)
        return len(data)

    def _malformed(self, scratch: Scratch, size: int) -> str:
        position, series = int(scratch.counts[kernels.POSITION]), int(scratch.counts[kernels.SERIES])
        return f"malformed protobuf in WriteRequest: series {series}, at byte {position} of {size}"

    def _resolve_spans(self, scan: Scan, refs: Int32, ts_ms: Int64, values: Float64) -> Steps:
        spans = scan.scratch.spans[: scan.spans]
        series, metadata = yield from self._read_spans(scan)
        found, refusals = yield from self._make_series(scan, series)
        unseen = np.flatnonzero(refs < 0)
        owners = -1 - refs[unseen]
        refs[unseen] = found[owners]
        rejected: Counter[RejectReason] = Counter()
        if refusals:
            samples_of = np.bincount(owners, minlength=len(spans))
            for i, refusal in refusals.items():
                rejected[refusal.reason] += int(samples_of[i])
            kept = refs >= 0
            refs, ts_ms, values = refs[kept], ts_ms[kept], values[kept]
        return DecodedWrite(
            refs=refs,
            ts_ms=ts_ms,
            values=values,
            metadata=metadata,
            series=scan.series,
            exemplars=scan.exemplars,
            histograms=scan.histograms,
            problems=[f"series {spans[i, 3]}: {refusal}" for i, refusal in refusals.items()],
            rejected=rejected,
        )

    def _read_spans(self, scan: Scan) -> Generator[None, None, tuple[dict[int, Labels | SampleRejected], list[Metadata]]]:
        """Labels of unseen series, or why they are refused, by span; and all metadata."""
        body = scan.scratch.body
        series: dict[int, Labels | SampleRejected] = {}
        metadata: list[Metadata] = []
        turn = perf_counter()
        for i, (kind, start, end, _) in enumerate(scan.scratch.spans[: scan.spans].tolist()):
            if perf_counter() - turn > TURN_SECONDS:
                yield
                turn = perf_counter()
            data = body[start:end].tobytes()
            if kind == kernels.METADATA:
                metadata += parse_metadata(data)
                continue
            try:
                series[i] = parse_labels(data)
            except SampleRejected as refusal:
                series[i] = refusal
        return series, metadata

    def _make_series(
        self, scan: Scan, series: dict[int, Labels | SampleRejected]
    ) -> Generator[None, None, tuple[Int32, dict[int, SampleRejected]]]:
        """Refs by span, int32[spans], -1 where there is none; and the refusals. Enters what was found into the table."""
        spans = scan.scratch.spans[: scan.spans]
        found = np.full(len(spans), -1, np.int32)
        refusals: dict[int, SampleRejected] = {}
        turn = perf_counter()
        for i, labels in series.items():
            if perf_counter() - turn > TURN_SECONDS:
                yield
                turn = perf_counter()
            if isinstance(labels, SampleRejected):
                refusals[i] = labels
                continue
            try:
                found[i] = self._series_ref(labels)
            except SampleRejected as over_limit:
                refusals[i] = over_limit
        known = found >= 0
        if known.any():
            keys = np.column_stack([spans[known, 1], spans[known, 2], found[known].astype(np.int64)])
            self.table.enter(scan.scratch.body, np.ascontiguousarray(keys))
        return found, refusals

    def _take_scratch(self, size: int) -> Scratch:
        try:
            scratch = self._scratches.pop()
        except IndexError:
            return Scratch.for_body(size)
        scratch.fit_body(size)
        return scratch

    def _give_back(self, scratch: Scratch) -> None:
        if scratch.held_bytes <= KEEP_SCRATCH_BYTES and len(self._scratches) < KEPT_SCRATCHES:
            self._scratches.append(scratch)


def _decoded(done: StopIteration) -> DecodedWrite:
    decoded: DecodedWrite = done.value
    return decoded


def parse_metadata(data: bytes) -> list[Metadata]:
    """A MetricMetadata message, unless it names no metric; an unknown type is `unknown`. Raise BadRequest when it is malformed."""
    try:
        message = MetricMetadata.FromString(data)
    except DecodeError as error:
        raise BadRequest(f"malformed protobuf in the metadata {data[:200]!r}") from error
    if not message.metric_family_name:
        return []
    types = MetricMetadata.MetricType
    return [
        Metadata(
            metric=message.metric_family_name.decode(errors="replace"),
            type=types.Name(message.type).lower() if message.type in types.values() else "unknown",
            help=message.help.decode(errors="replace"),
            unit=message.unit.decode(errors="replace"),
        )
    ]
