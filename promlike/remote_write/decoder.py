"""What the decoders of both versions share: a snappy block of protobuf into columns of samples.

Two steps: `scan` walks the wire and may run in any thread; `resolve` asks for the refs of series not seen before, in the event loop's
thread. Bytes that the walk leaves alone (groups, unusual encodings) are parsed by the protobuf classes and walked again as those write
them; so they alone decide what is malformed.
"""

import asyncio
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Generator
from time import perf_counter
from typing import ClassVar, Generic

import numpy as np
from google.protobuf.message import DecodeError

from promlike.errors import BadRequest, RejectReason, SampleRejected
from promlike.model.blocks import Float64, Int32, Int64
from promlike.model.exemplars import Exemplars, label_text
from promlike.model.labels import Labels
from promlike.remote_write import kernels
from promlike.remote_write.decompress import MAX_DECODED_BYTES, decoded_size, decompress_into
from promlike.remote_write.kernels import PADDING, Bytes
from promlike.remote_write.scan import DecodedWrite, Found, RawExemplar, S, Scan
from promlike.remote_write.series_labels import decoded_pairs
from promlike.remote_write.series_table import SeriesTable
from promlike.storage.access import Metadata

KEEP_SCRATCH_BYTES = 8 << 20
KEPT_SCRATCHES = 4

TURN_SECONDS = 0.002
"""How long new series may keep the event loop before others get their turn."""

NO_REFS: Int32 = np.empty(0, np.int32)
NO_EXEMPLARS = Exemplars.empty()

Steps = Generator[None, None, DecodedWrite]
"""Work on the event loop's thread that may rest at every yield."""


class Decoder(ABC, Generic[S]):
    """Decodes bodies of one version. `series_ref` gives the ref of checked, sorted labels, or raises SampleRejected."""

    message: ClassVar[str]
    """The name of the protobuf message."""

    exemplars_count: ClassVar[bool]
    """Whether a refused exemplar makes the answer an error. In version 1.0 it does not, as in Prometheus: senders take a 400 to mean that
    samples were refused."""

    def __init__(self, series_ref: Callable[[Labels], int], *, max_decoded_bytes: int = MAX_DECODED_BYTES) -> None:
        self._series_ref = series_ref
        self._max_decoded_bytes = max_decoded_bytes
        self.table = SeriesTable(seed=random_seed())
        self._scratches: list[S] = []
        self._making = asyncio.Lock()

    @abstractmethod
    def _new_scratch(self) -> S:
        """Arrays of no size."""

    @abstractmethod
    def _walk(self, scratch: S, size: int) -> None:
        """Run the kernel once over `scratch.body[:size]`."""

    @abstractmethod
    def _rewritten(self, data: bytes) -> bytes:
        """The body as the protobuf classes write it, without unknown fields. Raise DecodeError."""

    @abstractmethod
    def _check(self, scan: Scan[S]) -> None:
        """Raise BadRequest when a walked body breaks a rule of the protocol as a whole."""

    @abstractmethod
    def _read(self, scan: Scan[S], span: list[int], metadata: list[Metadata]) -> Labels | None:
        """The labels of an unseen series, None for a span (int[SPAN]) of another kind; metadata that comes with it is added to the list.

        Raise SampleRejected when the labels are not those of a series, BadRequest when the bytes are malformed.
        """

    @abstractmethod
    def _read_exemplar(self, scan: Scan[S], data: bytes) -> RawExemplar:
        """An Exemplar message. Raise SampleRejected when its references are wrong, DecodeError when it is malformed."""

    @abstractmethod
    def _keys(self, scan: Scan[S], found: Int32) -> Bytes | None:
        """The bytes that KEY_START and KEY_END speak of, ready to be entered for the spans whose ref in int32[spans] is not negative.

        None when nothing can be entered any more.
        """

    def forget(self) -> None:
        """Know no series any more: all that the next bodies bring is read as if it were new."""
        self.table.clear()

    @property
    def tables(self) -> tuple[SeriesTable, ...]:
        """What is known of series that came before."""
        return (self.table,)

    async def sweep(self) -> None:
        """Forget, beside the event loop, what stayed away for long, when it is time."""
        for table in self.tables:
            if table.is_due:
                sweep = table.begin_sweep()
                try:
                    await asyncio.to_thread(sweep.run)
                finally:
                    table.end_sweep(sweep)

    def decode(self, body: bytes) -> DecodedWrite:
        """`scan` and `resolve` in one."""
        return self.resolve(self.scan(body))

    def scan(self, body: bytes) -> Scan[S]:
        """Unpack and walk a body. Raise PayloadTooLarge or BadRequest; nothing of a malformed body is taken."""
        size = decoded_size(body, self._max_decoded_bytes)
        scratch = self._take_scratch(size)
        try:
            decompress_into(body, scratch.body, size)
            return self._scanned(scratch, size)
        except BadRequest:
            self._give_back(scratch)
            raise

    def resolve(self, scan: Scan[S]) -> DecodedWrite:
        """Look up series not seen before and read metadata. Raise BadRequest when these bytes are malformed; then no series is made."""
        steps = self._resolve(scan)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return _finished(done)

    async def resolve_in_turns(self, scan: Scan[S]) -> DecodedWrite:
        """`resolve` on the event loop: a body of many new series lets others work in between, one such body at a time."""
        steps = self._resolve(scan)
        try:
            next(steps)
            async with self._making:
                while True:
                    await asyncio.sleep(0)
                    next(steps)
        except StopIteration as done:
            return _finished(done)
        finally:
            steps.close()

    def _resolve(self, scan: Scan[S]) -> Steps:
        """The steps of `resolve`; each yield is a place where it may rest."""
        scratch = scan.scratch
        try:
            n = scan.samples
            refs, ts_ms, values = scratch.refs[:n], scratch.ts_ms[:n], scratch.values[:n]
            if scratch.held_bytes <= KEEP_SCRATCH_BYTES:  # larger ones are not used again
                refs, ts_ms, values = refs.copy(), ts_ms.copy(), values.copy()
            found = (yield from self._find(scan)) if scan.spans or scan.exemplars else Found(refs=NO_REFS)
            return self._decoded(scan, found, refs, ts_ms, values)
        finally:
            self._give_back(scratch)

    def discard(self, scan: Scan[S]) -> None:
        """Take the arrays of a scan back unused."""
        self._give_back(scan.scratch)

    def _scanned(self, scratch: S, size: int) -> Scan[S]:
        status = self._run(scratch, size)
        if status == kernels.ODD:
            size = self._rewrite(scratch, size)
            status = self._run(scratch, size)
        if status != kernels.OK:
            raise BadRequest(self._malformed(scratch, size))
        counts = scratch.counts
        scan = Scan(
            scratch=scratch,
            samples=int(counts[kernels.SAMPLES]),
            spans=int(counts[kernels.SPANS]),
            series=int(counts[kernels.SERIES]),
            exemplars=int(counts[kernels.EXEMPLARS]),
            histograms=int(counts[kernels.HISTOGRAMS]),
            starts=int(counts[kernels.STARTS]),
        )
        self._check(scan)
        return scan

    def _run(self, scratch: S, size: int) -> int:
        """Walk `scratch.body[:size]`, with more room when the columns were too short; the status is never FULL."""
        scratch.body[size : size + PADDING] = 0
        self._walk(scratch, size)
        if scratch.counts[kernels.STATUS] == kernels.FULL:
            scratch.fit_any(size)
            self._walk(scratch, size)
        return int(scratch.counts[kernels.STATUS])

    def _rewrite(self, scratch: S, size: int) -> int:
        """Put the body in as the protobuf classes write it; return the new size."""
        try:
            data = self._rewritten(scratch.body[:size].tobytes())
        except DecodeError as error:
            raise BadRequest(self._malformed(scratch, size)) from error
        scratch.load(data)
        return len(data)

    def _malformed(self, scratch: S, size: int) -> str:
        position, series = int(scratch.counts[kernels.POSITION]), int(scratch.counts[kernels.SERIES])
        return f"malformed protobuf in {self.message}: series {series}, at byte {position} of {size}"

    def _find(self, scan: Scan[S]) -> Generator[None, None, Found]:
        """Refs of all spans, and what stands beside them. Nothing is made unless everything can be read."""
        exemplars = yield from self._read_exemplars(scan)
        series, metadata = yield from self._read_spans(scan)
        found = Found(refs=np.full(scan.spans, -1, np.int32), metadata=metadata, exemplars=exemplars)
        turn = perf_counter()
        for i, labels in series.items():
            if perf_counter() - turn > TURN_SECONDS:
                yield
                turn = perf_counter()
            if isinstance(labels, SampleRejected):
                found.refusals[i] = labels
                continue
            try:
                found.refs[i] = self._series_ref(labels)
            except SampleRejected as refusal:
                found.refusals[i] = refusal.with_traceback(None)
        self._remember(scan, found.refs)
        return found

    def _remember(self, scan: Scan[S], found: Int32) -> None:
        """Enter the spans whose ref in int32[spans] is not negative into the table."""
        known = np.flatnonzero(found >= 0)
        key_bytes = self._keys(scan, found) if len(known) else None
        if key_bytes is not None:
            spans = scan.scratch.spans[known]
            keys = np.column_stack([spans[:, kernels.KEY_START], spans[:, kernels.KEY_END], found[known].astype(np.int64)])
            self.table.enter(key_bytes, np.ascontiguousarray(keys))

    def _read_spans(self, scan: Scan[S]) -> Generator[None, None, tuple[dict[int, Labels | SampleRejected], list[Metadata]]]:
        """Labels of unseen series, or why they are refused, by span; and all metadata."""
        series: dict[int, Labels | SampleRejected] = {}
        metadata: list[Metadata] = []
        turn = perf_counter()
        for i, span in enumerate(scan.scratch.spans[: scan.spans].tolist()):
            if perf_counter() - turn > TURN_SECONDS:
                yield
                turn = perf_counter()
            try:
                labels = self._read(scan, span, metadata)
            except SampleRejected as refusal:
                series[i] = refusal.with_traceback(None)  # which would hold what was read of the series
            else:
                if labels is not None:
                    series[i] = labels
        return series, metadata

    def _read_exemplars(self, scan: Scan[S]) -> Generator[None, None, list[tuple[float, int, str] | SampleRejected]]:
        """Value, time and labels of each exemplar, or why it is refused."""
        found: list[tuple[float, int, str] | SampleRejected] = []
        turn = perf_counter()
        for start, end, _, number in scan.scratch.exemplars[: scan.exemplars].tolist():
            if perf_counter() - turn > TURN_SECONDS:
                yield
                turn = perf_counter()
            data = scan.scratch.body[start:end].tobytes()
            try:
                raw = self._read_exemplar(scan, data)
                found.append((raw.value, raw.ts_ms, label_text(decoded_pairs(raw.labels))))
            except SampleRejected as refusal:
                found.append(refusal.with_traceback(None))
            except DecodeError as error:
                raise BadRequest(f"malformed protobuf in an exemplar of series {number}: {data[:200]!r}") from error
        return found

    def _decoded(self, scan: Scan[S], found: Found, refs: Int32, ts_ms: Int64, values: Float64) -> DecodedWrite:
        """The columns with the refs that were found, without samples of refused series."""
        spans = scan.scratch.spans
        rejected: Counter[RejectReason] = Counter()
        if scan.spans:
            unseen = np.flatnonzero(refs < 0)
            owners = -1 - refs[unseen]
            refs[unseen] = found.refs[owners]
        if found.refusals:
            samples_of = np.bincount(owners, minlength=scan.spans)
            for i, refusal in found.refusals.items():
                rejected[refusal.reason] += int(samples_of[i])
            kept = refs >= 0
            refs, ts_ms, values = refs[kept], ts_ms[kept], values[kept]
        exemplars, refused = _exemplars(scan, found)
        return DecodedWrite(
            refs=refs,
            ts_ms=ts_ms,
            values=values,
            metadata=found.metadata,
            exemplars=exemplars,
            series=scan.series,
            histograms=scan.histograms,
            start_timestamps=scan.starts,
            problems=[f"series {spans[i, kernels.NUMBER]}: {refusal}" for i, refusal in found.refusals.items()],
            rejected=rejected,
            exemplar_problems=[f"series {number}: {refusal}" for number, refusal in refused],
            exemplars_rejected=Counter(refusal.reason for _, refusal in refused),
        )

    def _take_scratch(self, size: int) -> S:
        try:
            scratch = self._scratches.pop()
        except IndexError:
            scratch = self._new_scratch()
            scratch.fit_usual(size)
        scratch.fit_body(size)
        return scratch

    def _give_back(self, scratch: S) -> None:
        scratch.forget()
        if scratch.held_bytes <= KEEP_SCRATCH_BYTES and len(self._scratches) < KEPT_SCRATCHES:
            self._scratches.append(scratch)


def _exemplars(scan: Scan[S], found: Found) -> tuple[Exemplars, list[tuple[int, SampleRejected]]]:
    """The exemplars of known series, and the others: number of the series in the body, why it, or the exemplar, was refused."""
    rows: list[tuple[int, int, float, str]] = []
    refused: list[tuple[int, SampleRejected]] = []
    places = scan.scratch.exemplars[: scan.exemplars, kernels.EXEMPLAR_REF :].tolist()
    for (ref, number), exemplar in zip(places, found.exemplars, strict=True):
        owner = -1 - ref
        if isinstance(exemplar, SampleRejected):
            refused.append((number, exemplar))
        elif owner in found.refusals:
            refused.append((number, found.refusals[owner]))
        else:
            value, ts_ms, text = exemplar
            rows.append((ref if ref >= 0 else int(found.refs[owner]), ts_ms, value, text))
    return Exemplars.of(rows) if rows else NO_EXEMPLARS, refused


def random_seed() -> np.uint64:
    """The seed of a table, which nobody outside can know."""
    return np.uint64(int.from_bytes(os.urandom(8)))


def _finished(done: StopIteration) -> DecodedWrite:
    decoded: DecodedWrite = done.value
    return decoded
