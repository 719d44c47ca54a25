"""The load of the benchmark is what a sender would send."""

import struct

import cramjam
import numpy as np
import pytest

from bench.bodies import make_bodies, version_2
from bench.fleet import STEP_SECONDS, Fleet, Labels, make_fleet
from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from promlike.remote_write.pb.remote_write_v2_pb2 import Request

END_MS = 1_800_000_000_123


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return make_fleet(series=400, steps=9, end_ms=END_MS)


def sent(bodies: list[bytes]) -> list[tuple[Labels, int, float]]:
    found: list[tuple[Labels, int, float]] = []
    for body in bodies:
        data = bytes(cramjam.snappy.decompress_raw(body))
        request = WriteRequest.FromString(data)
        assert request.SerializeToString(deterministic=True) == data
        for series in request.timeseries:
            labels = tuple((label.name.decode(), label.value.decode()) for label in series.labels)
            found += [(labels, sample.timestamp, sample.value) for sample in series.samples]
    return found


def test_every_sample_is_sent_once_and_in_order(fleet: Fleet) -> None:
    shards = make_bodies(fleet, connections=3, samples_per_body=70)
    for shard, bodies in enumerate(shards):
        rows = range(shard, 400, 3)
        expected = [
            (fleet.labels[row], int(fleet.start_ms + step * STEP_SECONDS * 1000 + fleet.phase_ms[row]), float(fleet.values[row, step]))
            for step in range(9)
            for row in rows
        ]
        assert sent(bodies) == expected
        sizes = [len(sent([body])) for body in bodies]
        assert set(sizes[:-1]) == {70}
        assert 0 < sizes[-1] <= 70


def test_zero_values_are_left_out_as_go_does(fleet: Fleet) -> None:
    data = b"".join(bytes(cramjam.snappy.decompress_raw(body)) for body in make_bodies(fleet, connections=1, samples_per_body=1000)[0])
    assert (fleet.values == 0).any()
    assert struct.pack("<Bd", 0x09, 0.0) not in data


def test_the_fleet_is_sound(fleet: Fleet) -> None:
    assert fleet.values.shape == (400, 9)
    assert fleet.samples == 3600
    assert len(set(fleet.labels)) == 400
    assert all(labels == tuple(sorted(labels)) and dict(labels)["__name__"] for labels in fleet.labels)
    assert np.isfinite(fleet.values).all()
    assert (fleet.values >= 0).all()
    last_ms = fleet.start_ms + 8 * STEP_SECONDS * 1000 + fleet.phase_ms
    assert fleet.end_ms == END_MS // 1000 * 1000
    assert (last_ms <= fleet.end_ms).all()
    assert (fleet.phase_ms % 1000 != 0).all()


def test_buckets_are_cumulative(fleet: Fleet) -> None:
    buckets = [row for row, labels in enumerate(fleet.labels) if dict(labels)["__name__"].endswith("_bucket")]
    assert [dict(fleet.labels[row])["le"] for row in buckets[:3]] == ["0.005", "0.01", "0.025"]
    first = fleet.values[buckets[:12]]
    assert (np.diff(first, axis=0) >= 0).all()


def test_bodies_of_version_2_say_the_same(fleet: Fleet) -> None:
    for body in make_bodies(fleet, connections=1, samples_per_body=500)[0]:
        request = Request.FromString(bytes(cramjam.snappy.decompress_raw(version_2(body))))
        assert request.symbols[0] == b""
        assert len(set(request.symbols)) == len(request.symbols)
        found: list[tuple[Labels, int, float]] = []
        for series in request.timeseries:
            texts = [request.symbols[ref].decode() for ref in series.labels_refs]
            labels = tuple(zip(texts[::2], texts[1::2], strict=True))
            found += [(labels, sample.timestamp, sample.value) for sample in series.samples]
        assert found == sent([body])
