"""Remote write 2.0: `io.prometheus.write.v2.Request`, whose texts stand once in a table of symbols.

Specification: https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/. Symbols differ from request to request, so a table gives each
text a lasting id, and series are known by the ids of their labels and metadata (see `kernels.walk_v2`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from google.protobuf.message import DecodeError

from promlike.errors import BadRequest, PayloadTooLarge, RejectReason, SampleRejected
from promlike.model.blocks import Int32, Int64
from promlike.model.labels import METRIC_NAME, Labels
from promlike.remote_write import kernels
from promlike.remote_write.decoder import Decoder, random_seed
from promlike.remote_write.decompress import MAX_DECODED_BYTES
from promlike.remote_write.kernels import Bytes
from promlike.remote_write.pb.remote_write_v2_pb2 import Exemplar, Request, TimeSeries
from promlike.remote_write.pb.remote_write_v2_pb2 import Metadata as MetadataMessage
from promlike.remote_write.scan import RawExemplar, Scan, Scratch
from promlike.remote_write.series_labels import check_length, labels_of
from promlike.remote_write.series_table import SeriesTable
from promlike.storage.access import Metadata

MOST_EXPANDED_BYTES = 256 << 20
"""A body can refer to a long symbol many times. So much a body may name in all; series that are known do not count."""

MOST_IDS = 2**31 - 1

TYPES = {number: name.removeprefix("METRIC_TYPE_").lower() for name, number in MetadataMessage.MetricType.items()} | {0: "unknown"}

SUFFIXES = {
    "histogram": ("_bucket", "_count", "_sum"),
    "gaugehistogram": ("_bucket", "_gcount", "_gsum"),
    "summary": ("_count", "_sum"),
}
"""What the series of a metric family have behind its name."""


@dataclass(slots=True, eq=False)
class SymbolScratch(Scratch):
    """Arrays of version 2: besides those of `Scratch`, the symbols of a body and the keys of its unseen series."""

    symbols: Int64 = field(default_factory=lambda: np.empty((0, 2), np.int64))
    ids: Int32 = field(default_factory=lambda: np.empty(0, np.int32))
    keys: Bytes = field(default_factory=lambda: np.empty(0, np.uint8))
    texts: dict[int, bytes] = field(default_factory=dict)
    """The symbols of this body that were looked at."""
    expanded: int = 0
    """How many bytes they have, each as often as it was asked for."""

    def fit_usual(self, size: int) -> None:
        Scratch.fit_usual(self, size)
        self._fit_symbols(size // 16 + 64, size + 64)

    def fit_any(self, size: int) -> None:
        Scratch.fit_any(self, size)
        self._fit_symbols(size // 2 + 64, 4 * size + 64)

    def _fit_symbols(self, symbols: int, key_bytes: int) -> None:
        if len(self.ids) < symbols:
            self.symbols = np.empty((symbols, 2), np.int64)
            self.ids = np.empty(symbols, np.int32)
        if len(self.keys) < key_bytes:
            self.keys = np.empty(key_bytes & ~3, np.uint8)

    def forget(self) -> None:
        self.texts = {}
        self.expanded = 0

    def symbol(self, ref: int) -> bytes:
        """The text of a reference that names a symbol."""
        text = self.texts.get(ref)
        if text is None:
            start, end = self.symbols[ref].tolist()
            text = self.texts[ref] = self.body[start:end].tobytes()
        self.expanded += len(text)
        if self.expanded > MOST_EXPANDED_BYTES:
            raise PayloadTooLarge(f"the symbols that new series refer to have more than {MOST_EXPANDED_BYTES} bytes")
        return text


class DecoderV2(Decoder[SymbolScratch]):
    """See `Decoder`."""

    message = "io.prometheus.write.v2.Request"
    exemplars_count = True

    def __init__(self, series_ref: Callable[[Labels], int], *, max_decoded_bytes: int = MAX_DECODED_BYTES) -> None:
        super().__init__(series_ref, max_decoded_bytes=max_decoded_bytes)
        self.symbols = SeriesTable(seed=random_seed())
        self._next_id = 1
        """Ids are never given again: what was forgotten comes back under a new one. 0 is the empty symbol."""

    @property
    def tables(self) -> tuple[SeriesTable, ...]:
        return self.table, self.symbols

    def _new_scratch(self) -> SymbolScratch:
        return SymbolScratch.empty()

    def _walk(self, scratch: SymbolScratch, size: int) -> None:
        symbols, series = self.symbols.arrays, self.table.arrays
        scratch.counts[kernels.SYMBOL_ENTRY] = symbols.last
        scratch.counts[kernels.ENTRY] = series.last
        kernels.walk_v2(
            scratch.body,
            size,
            symbols.slots,
            symbols.entries,
            symbols.used,
            symbols.arena,
            self.symbols.seed,
            scratch.symbols,
            scratch.ids,
            series.slots,
            series.entries,
            series.used,
            series.arena,
            self.table.seed,
            scratch.keys,
            scratch.refs,
            scratch.ts_ms,
            scratch.values.view(np.uint64),
            scratch.spans,
            scratch.exemplars,
            scratch.counts,
        )
        symbols.last = int(scratch.counts[kernels.SYMBOL_ENTRY])
        series.last = int(scratch.counts[kernels.ENTRY])

    def _rewritten(self, data: bytes) -> bytes:
        message = Request.FromString(data)
        message.DiscardUnknownFields()
        return message.SerializeToString()

    def _check(self, scan: Scan[SymbolScratch]) -> None:
        if scan.scratch.counts[kernels.SYMBOLS] and (first := scan.scratch.symbol(0)):
            raise BadRequest(f"the first symbol must be the empty string, not {first[:200]!r}")

    def _read(self, scan: Scan[SymbolScratch], span: list[int], metadata: list[Metadata]) -> Labels | None:
        data = scan.scratch.body[span[kernels.START] : span[kernels.END]].tobytes()
        try:
            series = TimeSeries.FromString(data)
        except DecodeError as error:
            raise BadRequest(f"malformed protobuf in series {span[kernels.NUMBER]}: {data[:200]!r}") from error
        about = series.metadata
        texts = _Texts(scan.scratch)
        labels = labels_of(texts.pairs(series.labels_refs))
        help_, unit = texts.optional("help_ref", about.help_ref), texts.optional("unit_ref", about.unit_ref)
        if about.type or help_ or unit:
            kind = TYPES.get(about.type, "unknown")
            metadata.append(Metadata(metric=family_name(dict(labels)[METRIC_NAME], kind), type=kind, help=help_, unit=unit))
        return labels

    def _read_exemplar(self, scan: Scan[SymbolScratch], data: bytes) -> RawExemplar:
        exemplar = Exemplar.FromString(data)
        pairs = _Texts(scan.scratch).pairs(exemplar.labels_refs)
        return RawExemplar(labels=pairs, value=exemplar.value, ts_ms=exemplar.timestamp)

    def _keys(self, scan: Scan[SymbolScratch], found: Int32) -> Bytes | None:
        """Gives symbols that known series need an id, and puts it into their keys."""
        scratch = scan.scratch
        keys = scratch.keys[: scratch.counts[kernels.KEY_BYTES]].view(np.int32)
        for start, end in scratch.spans[np.flatnonzero(found < 0), kernels.KEY_START : kernels.KEY_END + 1].tolist():
            keys[start // 4 : end // 4] = 0  # a refused series, whose symbols are not worth remembering
        unnamed = np.flatnonzero(keys < 0)
        missing = np.unique(-1 - keys[unnamed])
        if self._next_id + len(missing) > MOST_IDS:
            return None  # from here on all that is new stays new: slow, but right
        entered = np.column_stack([scratch.symbols[missing], self._next_id + np.arange(len(missing))])
        self._next_id += len(missing)
        self.symbols.enter(scratch.body, entered)
        scratch.ids[missing] = entered[:, 2]
        keys[unnamed] = scratch.ids[-1 - keys[unnamed]]
        return scratch.keys


class _Texts:
    """What the references of one series name."""

    def __init__(self, scratch: SymbolScratch) -> None:
        self._scratch = scratch
        self._count = int(scratch.counts[kernels.SYMBOLS])

    def pairs(self, refs: Sequence[int]) -> list[tuple[bytes, bytes]]:
        """Names and values. Raise SampleRejected when they are no pairs, or one names no symbol, or they are too long."""
        if len(refs) % 2:
            raise SampleRejected(RejectReason.INVALID_LABEL_REFERENCE, f"{len(refs)} label references, which are no pairs")
        check_length(2 * len(refs))  # as little as they may be
        texts = [self._text("labels_refs", ref) for ref in refs]
        check_length(sum(map(len, texts)))
        return list(zip(texts[::2], texts[1::2], strict=True))

    def optional(self, field_name: str, ref: int) -> str:
        """A text of metadata; 0 means none, even in a body without symbols."""
        return self._text(field_name, ref).decode(errors="replace") if ref else ""

    def _text(self, field_name: str, ref: int) -> bytes:
        if ref >= self._count:
            text = f"{field_name} names symbol {ref}, there are {self._count}"
            raise SampleRejected(RejectReason.INVALID_LABEL_REFERENCE, text)
        return self._scratch.symbol(ref)


def family_name(metric: str, kind: str) -> str:
    """The name of the metric family that a series of this metric belongs to."""
    for suffix in SUFFIXES.get(kind, ()):
        if metric.endswith(suffix) and metric != suffix:
            return metric.removesuffix(suffix)
    return metric
