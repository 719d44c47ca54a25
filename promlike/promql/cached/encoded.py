"""Runs as bytes that can be kept outside of the process. Axis letters: S series, N points, T steps, L label names.

A value is a digest of its key and of the rest, then, compressed: the length of a header, the header as JSON, and columns one behind the
other.
Values of float64 and int64 lie byte by byte, all first bytes before all second ones: so they are compressed faster, and mostly to less.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cramjam
import numpy as np
import xxhash

from promlike.model.blocks import Bool, Int64, SampleBlock
from promlike.promql.annotations import Note
from promlike.promql.ast import Span
from promlike.promql.cached.points import Points
from promlike.promql.cached.run import Run

MOST_BYTES = 4 << 20
"""Of a value: more would take Redis, which does one thing at a time, and the network too long."""
MOST_CELLS = 4_000_000
"""Series times steps. What is larger is not tried."""

DIGEST_BYTES = 16
LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharedRun:
    """A run that holds for what the store had after flush number `flush`, the one with this token."""

    run: Run
    flush: int
    token: int


def encode(key: str, shared: SharedRun) -> bytes | None:
    """None when it is too large."""
    run, points = shared.run, shared.run.points
    samples, steps = points.samples, run.steps
    if samples.series * steps > MOST_CELLS:
        return None
    header = json.dumps(
        {
            "first": run.first_ms,
            "last": run.last_ms,
            "step": run.step_ms,
            "span": run.span_ms,
            "flush": shared.flush,
            "token": shared.token,
            "names": points.names,
            "texts": points.texts,
            "series": samples.series,
            "points": samples.count,
            "counted": bool(run.samples_per_step),
            "text": run.text,
            "notes": [
                (note.is_warning, note.message, note.span.start, note.span.end, np.packbits(note.steps).tobytes().hex())
                for note in run.notes
            ],
        }
    ).encode()
    present = np.zeros((samples.series, steps), np.bool_)
    present[np.repeat(np.arange(samples.series), np.diff(samples.offsets)), (samples.ts_ms - run.first_ms) // run.step_ms] = True
    columns = (
        np.ascontiguousarray(points.codes, np.int32).tobytes(),
        np.packbits(present).tobytes(),
        _apart(samples.values.view(np.int64)),
        _apart(np.array(run.samples_per_step, np.int64)),
    )
    body = bytes(cramjam.zstd.compress(b"".join((len(header).to_bytes(LENGTH_BYTES, "little"), header, *columns)), level=1))
    return _digest(key, body) + body if len(body) <= MOST_BYTES else None


def decode(key: str, value: bytes) -> SharedRun | None:
    """None for what is not, or not as a whole, what `encode` gave for this key."""
    body = value[DIGEST_BYTES:]
    if len(body) > MOST_BYTES or value[:DIGEST_BYTES] != _digest(key, body):
        return None
    try:
        return _decoded(memoryview(cramjam.zstd.decompress(body)))
    except (ValueError, KeyError, TypeError, IndexError, cramjam.DecompressionError):
        return None


def _decoded(data: memoryview) -> SharedRun:
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    at = LENGTH_BYTES + length
    header: dict[str, Any] = json.loads(bytes(data[LENGTH_BYTES:at]))
    first, last, step = header["first"], header["last"], header["step"]
    series, count, names = header["series"], header["points"], tuple(header["names"])
    steps = (last - first) // step + 1
    sizes = (4 * series * len(names), (series * steps + 7) // 8, 8 * count, 8 * steps if header["counted"] else 0)
    ends = np.cumsum((at, *sizes)).tolist()
    codes, packed, values, counts = (data[low:high] for low, high in pairwise(ends))
    if ends[-1] != len(data):
        raise ValueError(f"{len(data)} bytes in place of {ends[-1]}")
    present = _unpacked(packed, series * steps).reshape(series, steps)
    offsets = np.append(0, np.cumsum(np.count_nonzero(present, axis=1), dtype=np.int64))
    samples = SampleBlock(ts_ms=first + step * np.nonzero(present)[1], values=_together(values).view(np.float64), offsets=offsets)
    samples.validate()
    return SharedRun(
        run=Run(
            first_ms=first,
            last_ms=last,
            step_ms=step,
            number=0,
            points=Points(
                names=names,
                codes=np.frombuffer(codes, np.int32).reshape(series, len(names)).copy(),
                texts=tuple(header["texts"]),
                samples=samples,
            ),
            samples_per_step=tuple(_together(counts).tolist()),
            span_ms=header["span"],
            text=header["text"],
            notes=tuple(
                Note(is_warning=is_warning, message=message, span=Span(start, end), steps=_unpacked(bytes.fromhex(noted), steps))
                for is_warning, message, start, end, noted in header["notes"]
            ),
        ),
        flush=header["flush"],
        token=header["token"],
    )


def _unpacked(data: bytes | memoryview, count: int) -> Bool:
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count).astype(np.bool_)


def _digest(key: str, body: bytes) -> bytes:
    return xxhash.xxh3_128_digest(body, seed=xxhash.xxh3_64_intdigest(key.encode()))


def _apart(numbers: Int64) -> bytes:
    """The bytes of int64[N], those of each place in a number together."""
    return np.ascontiguousarray(numbers.view(np.uint8).reshape(-1, 8).T).tobytes()


def _together(data: memoryview) -> Int64:
    """What `_apart` was given."""
    return np.frombuffer(data, np.uint8).reshape(8, -1).T.copy("C").view(np.int64).reshape(-1)
