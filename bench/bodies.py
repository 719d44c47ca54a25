"""Remote write bodies of a fleet, made before anything is measured, encoded as Go encodes them: zero values are left out."""

from collections.abc import Iterator

import cramjam
import numpy as np
from numpy.typing import NDArray

from bench.fleet import STEP_SECONDS, Fleet, Labels
from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from promlike.remote_write.pb.remote_write_v2_pb2 import Metadata, Request

SAMPLE_BYTES = 18
"""`12 10 | 09 <8> | 10 <6>`: tag and length, value, time."""


def make_bodies(fleet: Fleet, *, connections: int, samples_per_body: int) -> list[list[bytes]]:
    """Bodies of each connection, in the order they must be sent.

    Every connection has its own series; its samples are a stream in order of time, cut every `samples_per_body`, as a sender's shards do.
    """
    return [list(_shard_bodies(fleet, np.arange(first, len(fleet.labels), connections), samples_per_body)) for first in range(connections)]


def _shard_bodies(fleet: Fleet, rows: NDArray[np.int64], samples_per_body: int) -> Iterator[bytes]:
    template = StepTemplate([fleet.labels[row] for row in rows.tolist()])
    pending: list[bytes] = []
    held = 0
    for step in range(fleet.values.shape[1]):
        ts_ms = fleet.start_ms + step * STEP_SECONDS * 1000 + fleet.phase_ms[rows]
        data, ends = template.encode(np.ascontiguousarray(fleet.values[rows, step]), ts_ms)
        taken = 0
        while held + len(rows) - taken >= samples_per_body:
            until = taken + samples_per_body - held
            pending.append(data[_end(ends, taken) : _end(ends, until)])
            yield _compress(pending)
            pending, held, taken = [], 0, until
        pending.append(data[_end(ends, taken) :])
        held += len(rows) - taken
    if held:
        yield _compress(pending)


def _end(ends: NDArray[np.int64], count: int) -> int:
    return int(ends[count - 1]) if count else 0


def _compress(parts: list[bytes]) -> bytes:
    return bytes(cramjam.snappy.compress_raw(b"".join(parts)))


def version_2(body: bytes) -> bytes:
    """A body of remote write 1.0 as one of 2.0, with symbols in the order of their first use and metadata, as Prometheus sends it."""
    request = Request(symbols=[b""])
    refs: dict[bytes, int] = {b"": 0}

    def ref(text: bytes) -> int:
        if text not in refs:
            refs[text] = len(refs)
            request.symbols.append(text)
        return refs[text]

    for series in WriteRequest.FromString(bytes(cramjam.snappy.decompress_raw(body))).timeseries:
        added = request.timeseries.add()
        for label in series.labels:
            added.labels_refs.extend((ref(label.name), ref(label.value)))
        for sample in series.samples:
            added.samples.add(value=sample.value, timestamp=sample.timestamp)
        added.metadata.type = Metadata.METRIC_TYPE_COUNTER
        added.metadata.help_ref = ref(b"What " + series.labels[0].value + b" counts.")
    return bytes(cramjam.snappy.compress_raw(request.SerializeToString()))


class StepTemplate:
    """One sample of each of S series as bytes; only values and times change from step to step."""

    def __init__(self, series: list[Labels]) -> None:
        records = [_record(labels) for labels in series]
        lengths = np.array([len(record) for record in records], np.int64)
        self._ends = np.cumsum(lengths)
        self._starts = self._ends - lengths
        self._samples = self._ends - SAMPLE_BYTES
        self._bytes = np.frombuffer(b"".join(records), np.uint8).copy()

    def encode(self, values: NDArray[np.float64], ts_ms: NDArray[np.int64]) -> tuple[bytes, NDArray[np.int64]]:
        """The bytes of values float64[S] at ts_ms int64[S], and where each series ends, int64[S]."""
        data = self._bytes
        data[self._samples[:, None] + 3 + np.arange(8)] = values.view(np.uint8).reshape(-1, 8)
        groups = (ts_ms[:, None] >> np.arange(0, 42, 7)) & 0x7F
        groups[:, :5] |= 0x80
        data[self._samples[:, None] + 12 + np.arange(6)] = groups.astype(np.uint8)
        zero = np.flatnonzero(values.view(np.uint64) == 0)
        if not len(zero):
            return data.tobytes(), self._ends
        return self._without_values(zero)

    def _without_values(self, zero: NDArray[np.int64]) -> tuple[bytes, NDArray[np.int64]]:
        """The bytes without the nine of the value of these series, their lengths corrected."""
        data = self._bytes.copy()
        starts = self._starts[zero]
        lengths = (data[starts + 1].astype(np.int64) & 0x7F | data[starts + 2].astype(np.int64) << 7) - 9
        data[starts + 1] = lengths & 0x7F | 0x80
        data[starts + 2] = lengths >> 7
        data[self._samples[zero] + 1] = 7
        keep = np.ones(len(data), bool)
        keep[self._samples[zero][:, None] + 2 + np.arange(9)] = False
        shorter = np.zeros(len(self._ends), np.int64)
        shorter[zero] = 9
        return data[keep].tobytes(), self._ends - np.cumsum(shorter)


def _record(labels: Labels) -> bytes:
    """A TimeSeries field whose length takes two bytes, with room for one sample at its end."""
    fields = b"".join(_field(_field(name.encode(), 0x0A) + _field(value.encode(), 0x12), 0x0A) for name, value in labels)
    content = fields + b"\x12\x10\x09" + bytes(8) + b"\x10" + bytes(6)
    if not 137 <= len(content) < 1 << 14:
        raise ValueError(f"a series of {len(content)} bytes does not fit the template: {labels}")
    return b"\x0a" + bytes([len(content) & 0x7F | 0x80, len(content) >> 7]) + content


def _field(payload: bytes, tag: int) -> bytes:
    if len(payload) >= 128:
        raise ValueError(f"a label of {len(payload)} bytes does not fit the template")
    return bytes([tag, len(payload)]) + payload
