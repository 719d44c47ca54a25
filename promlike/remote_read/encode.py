"""Series with their samples in the two forms of remote read."""

from collections.abc import Callable, Iterator

import cramjam
import numpy as np

from promlike.model.blocks import Int32, Int64, SampleBlock
from promlike.model.frame import LabelFrame
from promlike.model.label_texts import Bytes, LabelTexts, label_texts
from promlike.model.labels import Labels
from promlike.remote_read import kernels
from promlike.remote_read.kernels import CHUNK_SAMPLES, SAMPLE_BYTES, SERIES_BYTES
from promlike.storage.access import SeriesBlock

PORTION_SAMPLES = 500_000
"""Samples of whole series that are encoded at once, in some 10 MB."""


def with_external(labels: LabelFrame, external: Labels) -> LabelFrame:
    """Each series with the external labels it does not have itself."""
    for name, value in external:
        column = labels.column(name)
        labels = labels.with_column(name, np.where(column == 0, np.int32(labels.symbols.intern(value)), column))
    return labels


def encode_samples(block: SeriesBlock) -> bytes:
    """A field `results` of a ReadResponse."""
    samples, texts = block.samples.whole(), label_texts(block.labels, _label_text)
    parts = []
    for low, high in _portions(samples.offsets):
        offsets, first, last = _part(samples, low, high)
        sizes = texts.sizes()[low:high]
        out = np.empty(int(sizes.sum()) + (high - low) * SERIES_BYTES + (last - first) * SAMPLE_BYTES, np.uint8)
        bits = np.ascontiguousarray(samples.values[first:last]).view(np.uint64)
        ts_ms = np.ascontiguousarray(samples.ts_ms[first:last])
        written = kernels.write_timeseries(*_labels(texts, low, high), offsets, ts_ms, bits, out)
        parts.append(out[:written].tobytes())
    return _field(1, b"".join(parts))


def encode_frames(block: SeriesBlock, query: int, frame_bytes: int) -> Iterator[bytes]:
    """Frames of the answer to a query, portion by portion, each made when it is asked for."""
    samples, texts = block.samples.whole(), label_texts(block.labels, _label_text)
    table = kernels.castagnoli_table()
    chunk_bytes = CHUNK_SAMPLES * SAMPLE_BYTES + SERIES_BYTES
    chunks = np.empty(frame_bytes + 2 * chunk_bytes, np.uint8)
    for low, high in _portions(samples.offsets):
        offsets, first, last = _part(samples, low, high)
        most_frames = -(-np.diff(offsets) // CHUNK_SAMPLES)
        size = int(((texts.sizes()[low:high] + SERIES_BYTES) * most_frames).sum()) + (last - first) * SAMPLE_BYTES
        out = np.empty(size + chunk_bytes, np.uint8)
        bits = np.ascontiguousarray(samples.values[first:last]).view(np.uint64)
        ts_ms = np.ascontiguousarray(samples.ts_ms[first:last])
        written = kernels.write_frames(
            *_labels(texts, low, high), offsets, ts_ms, bits, query, CHUNK_SAMPLES, frame_bytes, table, chunks, out
        )
        yield out[:written].tobytes()


def compress(parts: list[bytes]) -> bytes:
    """A snappy block."""
    return bytes(cramjam.snappy.compress_raw(b"".join(parts)))


def _portions(offsets: Int64) -> Iterator[tuple[int, int]]:
    """Ranges of series with about PORTION_SAMPLES samples, at least one series each."""
    row = 0
    while row < len(offsets) - 1:
        below = int(np.searchsorted(offsets, offsets[row] + PORTION_SAMPLES, side="right")) - 1
        until = min(max(below, row + 1), len(offsets) - 1)
        yield row, until
        row = until


def _part(samples: SampleBlock, low: int, high: int) -> tuple[Int64, int, int]:
    """Offsets of the series low..high-1, from 0 on, and which samples they have."""
    first, last = int(samples.offsets[low]), int(samples.offsets[high])
    return np.ascontiguousarray(samples.offsets[low : high + 1] - first), first, last


def _labels(texts: LabelTexts, low: int, high: int) -> tuple[Bytes, Int64, Int32]:
    return texts.blob, texts.borders, np.ascontiguousarray(texts.pieces[low:high])


def _label_text(name: str) -> Callable[[str], bytes]:
    """A field `labels` of a series."""
    key = _field(1, name.encode())
    return lambda value: _field(1, key + _field(2, value.encode()))


def _field(number: int, payload: bytes) -> bytes:
    """A protobuf field with a length."""
    return bytes([number << 3 | 2]) + _varint(len(payload)) + payload


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
