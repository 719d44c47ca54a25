"""What the kernels write, read by the protobuf classes and by a reader of chunks that goes bit by bit."""

import random
from itertools import pairwise

import numpy as np
import pytest

from promlike.model.blocks import STALE_NAN, SampleBlock
from promlike.model.frame import LabelFrame, Symbols, SymbolScope
from promlike.model.labels import Labels, labels
from promlike.remote_read.encode import PORTION_SAMPLES, encode_frames, encode_samples, with_external
from promlike.remote_read.pb.remote_read_pb2 import Label, ReadResponse
from promlike.storage.access import SeriesBlock
from tests.remote_read import slow_chunks
from tests.remote_read.slow_chunks import Row

T = 1_700_000_000_000
FRAME = 1 << 20

VALUES: dict[str, list[float]] = {
    "one": [1.5],
    "zeros": [0.0, 0.0, -0.0, 0.0],
    "a counter": [float(i * 7) for i in range(500)],
    "odd": [float("nan"), STALE_NAN, float("inf"), -float("inf"), 5e-324, -1.7976931348623157e308, 1 / 3],
    "all bits change": [float(np.uint64(i * 0x9E3779B97F4A7C15 % 2**64).view(np.float64)) for i in range(300)],
    "lowest bit": [1.0, float(np.nextafter(1, 2)), 1.0, float(np.nextafter(1, 2))],
    "all but the lowest bits": [0.0, *[float(np.uint64(2**64 - 1 - i).view(np.float64)) for i in range(4)]],
    "a full chunk": [1.0] * 120,
    "one more than a chunk": [2.0] * 121,
}
TIMES: dict[str, list[int]] = {
    "regular": [T + i * 15_000 for i in range(500)],
    "around zero": [-2_000_000, -1, 0, 1, 127, 128, 129, *range(1000, 1493)],
    "widths of changes": list(
        np.cumsum([T, 1, *[d for w in (13, 16, 19, 24) for e in (-1, 0, 1, 2) for d in (1, 2**w + e, 1, 1)], *[5] * 440]).tolist()
    ),
    "far apart": [-(2**62), -(2**61), 0, 2**61, 2**62, *range(2**62 + 1, 2**62 + 500)],
}


def block(*series: tuple[Labels, list[int], list[float]]) -> SeriesBlock:
    offsets = np.cumsum([0, *[len(times) for _, times, _ in series]], dtype=np.int64)
    return SeriesBlock(
        labels=LabelFrame.from_labels([one for one, _, _ in series], SymbolScope(Symbols())),
        samples=SampleBlock(
            ts_ms=np.array([time for _, times, _ in series for time in times], np.int64),
            values=np.array([value for _, _, values in series for value in values]),
            offsets=offsets,
        ),
    )


def expected(one: SeriesBlock) -> list[tuple[Labels, list[Row]]]:
    samples = one.samples.whole()
    bits = samples.values.view(np.uint64).tolist()
    times, offsets = samples.ts_ms.tolist(), samples.offsets.tolist()
    return [
        (one.labels.labels_of(row), list(zip(times[low:high], bits[low:high], strict=True)))
        for row, (low, high) in enumerate(pairwise(offsets))
    ]


def plain(given: "list[Label]") -> Labels:
    return tuple((label.name, label.value) for label in given)


def streamed(one: SeriesBlock, query: int = 0, frame_bytes: int = FRAME) -> list[tuple[Labels, list[Row]]]:
    """Series of all frames, those of the same labels joined."""
    out: list[tuple[Labels, list[Row]]] = []
    for frame in slow_chunks.frames(b"".join(encode_frames(one, query, frame_bytes))):
        assert frame.query_index == query
        for series in frame.chunked_series:
            if not out or out[-1][0] != plain(list(series.labels)):
                out.append((plain(list(series.labels)), []))
            for chunk in series.chunks:
                rows = slow_chunks.rows(chunk.data)
                assert (chunk.type, chunk.min_time_ms, chunk.max_time_ms) == (1, rows[0][0], rows[-1][0])
                assert len(rows) <= 120
                out[-1][1].extend(rows)
    return out


def sampled(one: SeriesBlock) -> list[tuple[Labels, list[Row]]]:
    answer = ReadResponse.FromString(encode_samples(one))
    return [
        (plain(list(series.labels)), [(sample.timestamp, int(np.float64(sample.value).view(np.uint64))) for sample in series.samples])
        for series in answer.results[0].timeseries
    ]


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("times", TIMES)
def test_both_forms_carry_every_bit(times: str, values: str) -> None:
    chosen = VALUES[values]
    one = block((labels({"__name__": "m", "ü": "<ö>\n"}), TIMES[times][: len(chosen)], chosen))
    assert streamed(one) == expected(one)
    assert sampled(one) == expected(one)


def test_random_series() -> None:
    rng = random.Random(7)
    series = []
    for number in range(60):
        count = rng.choice((1, 2, 3, 119, 120, 121, 400))
        time = rng.randrange(-(10**6), 2 * 10**12)
        times = np.cumsum([time, *[rng.choice((1, 15_000, 15_001, 14_999, rng.randrange(1, 2**45))) for _ in range(count - 1)]]).tolist()
        values = [rng.choice((0.0, float(rng.randrange(100)), rng.random(), rng.gauss(0, 1e300))) for _ in range(count)]
        series.append((labels({"__name__": "m", "n": f"{number:02d}", **({"even": "yes"} if number % 2 else {})}), times, values))
    one = block(*series)
    assert streamed(one, query=3) == expected(one)
    assert sampled(one) == expected(one)


@pytest.mark.parametrize("frame_bytes", [1, 200, 1000, FRAME])
def test_frames_hold_one_series_and_end_at_their_size(frame_bytes: int) -> None:
    one = block(
        *[(labels({"__name__": "m", "n": str(n)}), TIMES["regular"], VALUES["all bits change"] + [1.0] * 200) for n in range(3)],
    )
    found = list(slow_chunks.frames(b"".join(encode_frames(one, 0, frame_bytes))))
    assert all(len(frame.chunked_series) == 1 for frame in found)
    sizes = [[len(chunk.data) for chunk in frame.chunked_series[0].chunks] for frame in found]
    assert all(sum(chunks[:-1]) < frame_bytes for chunks in sizes)
    assert len(found) == (3 if frame_bytes == FRAME else 15 if frame_bytes == 1 else len(found))
    assert streamed(one, frame_bytes=frame_bytes) == expected(one)


def test_many_samples_are_encoded_in_portions() -> None:
    count = PORTION_SAMPLES // 2 + 1
    times = np.arange(count, dtype=np.int64).tolist()
    one = block(*[(labels({"n": str(n)}), times, [float(n)] * count) for n in range(3)])
    parts = list(encode_frames(one, 0, FRAME))
    assert len(parts) == 3
    first = next(slow_chunks.frames(parts[2]))
    assert plain(list(first.chunked_series[0].labels)) == (("n", "2"),)
    assert [len(series.samples) for series in ReadResponse.FromString(encode_samples(one)).results[0].timeseries] == [count] * 3


def test_nothing_is_an_empty_answer() -> None:
    one = block()
    assert list(encode_frames(one, 0, FRAME)) == []
    assert sampled(one) == []


def test_external_labels_stand_behind_a_series_own() -> None:
    frame = LabelFrame.from_labels([labels({"__name__": "a", "zone": "x"}), labels({"__name__": "b"})], SymbolScope(Symbols()))
    assert with_external(frame, (("cluster", "c"), ("zone", "z"))).all_labels() == [
        (("__name__", "a"), ("cluster", "c"), ("zone", "x")),
        (("__name__", "b"), ("cluster", "c"), ("zone", "z")),
    ]
