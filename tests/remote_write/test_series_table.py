"""The table of label bytes: growth, sweeps, readers beside the writer."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from promlike.remote_write.decode_v1 import DecoderV1
from promlike.remote_write.receiver import RemoteWriteReceiver
from promlike.remote_write.series_table import SPARE_ENTRIES
from tests.remote_write import wire
from tests.remote_write.sink import ListSink

T = 1_700_000_000_000


def body(first: int, count: int, *, pad: str = "") -> bytes:
    return wire.snappy(b"".join(wire.simple("m", [(float(i), T)], i=f"{i:06}", pad=pad) for i in range(first, first + count)))


def decoded_series(decoder: DecoderV1, sink: ListSink, block: bytes) -> list[int]:
    """The numbers of the series of a body's samples; each must be its sample's value."""
    decoded = decoder.decode(block)
    rows = sink.rows_of(decoded.refs, decoded.ts_ms, decoded.values)
    numbers = [int(dict(labels)["i"]) for labels, _, _ in rows]
    assert numbers == decoded.values.astype(int).tolist()
    return numbers


def test_the_table_grows() -> None:
    sink = ListSink()
    decoder = DecoderV1(sink.series_ref)
    for first in range(0, 6000, 700):
        decoded_series(decoder, sink, body(first, 700, pad="x" * 300))
    assert decoder.table.count == 6300
    sink.series_ref = None  # type: ignore[assignment,method-assign]  # from here on every series must be known
    for order in (range(0, 6000, 700), reversed(range(0, 6000, 700))):
        for first in order:
            assert decoded_series(decoder, sink, body(first, 700, pad="x" * 300)) == list(range(first, first + 700))


def test_a_sweep_forgets_what_stayed_away() -> None:
    sink = ListSink()
    decoder = DecoderV1(sink.series_ref)
    decoded_series(decoder, sink, body(0, 3000))
    decoder.table.sweep()
    assert decoder.table.count == 3000
    decoded_series(decoder, sink, body(1000, 500))
    decoder.table.sweep()
    assert decoder.table.count == 500
    assert decoded_series(decoder, sink, body(900, 700)) == list(range(900, 1600))
    assert len(sink.refs) == 3000


async def test_requests_sweep_when_it_is_due() -> None:
    sink = ListSink()
    receiver = RemoteWriteReceiver(sink)
    table = receiver.tables[0]
    table.sweep_seconds = 0.0
    for first in (0, 10, 20, 30):
        await receiver.write(body(first, 10))
    assert table.count == 20


async def test_a_crowded_table_is_swept_sooner() -> None:
    """However many series come and go, but not before senders had time to repeat theirs."""
    sink = ListSink()
    receiver = RemoteWriteReceiver(sink)
    table = receiver.tables[0]
    table.least_sweep_seconds = 0.0
    stay, come = body(0, 5000), iter(range(5000, 10**9, 2000))
    counts = []
    for _ in range(50):
        await receiver.write(stay)
        await receiver.write(body(next(come), 2000))
        counts.append(table.count)
    assert len(sink.refs) == 105_000
    assert max(counts) < 5000 * 5 // 3 + 4 * SPARE_ENTRIES
    table.least_sweep_seconds = 3600.0
    for _ in range(10):
        await receiver.write(stay)
        await receiver.write(body(next(come), 2000))
    assert table.count >= 20_000 + counts[-1]
    sink.series_ref = None  # type: ignore[assignment,method-assign]  # those that never went are known
    await receiver.write(stay)


def test_what_comes_during_a_sweep_is_kept() -> None:
    sink = ListSink()
    decoder = DecoderV1(sink.series_ref)
    decoded_series(decoder, sink, body(0, 100))
    decoder.table.sweep()
    decoded_series(decoder, sink, body(50, 50))
    sweep = decoder.table.begin_sweep()
    assert not decoder.table.is_due
    decoded_series(decoder, sink, body(100, 2000))
    sweep.run()
    decoded_series(decoder, sink, body(2100, 5000))
    decoder.table.end_sweep(sweep)
    assert decoder.table.count == 7050
    asked, sink.series_ref = sink.series_ref, None  # type: ignore[assignment,method-assign]  # from here on every series must be known
    decoded_series(decoder, sink, body(50, 7050))
    sink.series_ref = asked  # type: ignore[method-assign]
    assert decoded_series(decoder, sink, body(0, 100)) == list(range(100))


def test_a_table_that_is_cleared_or_not_swept_to_the_end_stays_right() -> None:
    sink = ListSink()
    decoder = DecoderV1(sink.series_ref)
    decoded_series(decoder, sink, body(0, 100))
    decoder.table.end_sweep(decoder.table.begin_sweep())
    assert decoder.table.count == 100
    sweep = decoder.table.begin_sweep()
    sweep.run()
    decoder.table.clear()
    decoder.table.end_sweep(sweep)
    assert decoder.table.count == 0


def test_a_cleared_table_asks_again() -> None:
    sink = ListSink()
    decoder = DecoderV1(sink.series_ref)
    decoded_series(decoder, sink, body(0, 50))
    decoder.table.clear()
    sink.refs = {labels: ref + 7 for labels, ref in sink.refs.items()}
    assert decoder.decode(body(0, 50)).refs.tolist() == list(range(7, 57))


def test_scans_run_beside_growth() -> None:
    sink = ListSink()
    decoder = DecoderV1(sink.series_ref)
    blocks = [body(first, 500) for first in range(0, 20_000, 500)]
    with ThreadPoolExecutor(2) as threads:
        for _ in range(4):
            for block, scan in zip(blocks, threads.map(decoder.scan, blocks), strict=True):
                decoded = decoder.resolve(scan)
                rows = sink.rows_of(decoded.refs, decoded.ts_ms, decoded.values)
                assert [int(dict(labels)["i"]) for labels, _, _ in rows] == decoded.values.astype(int).tolist()
                assert len(rows) == 500, block
    assert decoder.table.count == len(sink.refs) == 20_000


def test_label_bytes_are_compared_not_only_hashed() -> None:
    """Eight series whose bytes differ in one bit each."""
    sink = ListSink()
    decoder = DecoderV1(sink.series_ref)
    names = [f"{'x' * at}y{'x' * (40 - at)}" for at in range(41)]
    block = wire.snappy(b"".join(wire.simple(name, [(float(i), T)]) for i, name in enumerate(names)))
    for _ in range(2):
        assert np.array_equal(decoder.decode(block).refs, np.arange(41))


def test_a_large_table_grows_in_place() -> None:
    sink = ListSink()
    decoder = DecoderV1(sink.series_ref)
    blocks = [body(first, 1000, pad="x" * 1500) for first in range(0, 12_000, 1000)]
    arenas = []
    for block in blocks:
        decoded_series(decoder, sink, block)
        arenas.append(decoder.table.arrays.arena)
    assert arenas[-1] is arenas[-4]
    assert decoder.table.count == 12_000
    asked = sink.series_ref
    sink.series_ref = None  # type: ignore[assignment,method-assign]  # from here on every series must be known
    for block in blocks:
        decoder.decode(block)
    sink.series_ref = asked  # type: ignore[method-assign]
    decoder.table.sweep()
    decoded_series(decoder, sink, blocks[3])
    decoder.table.sweep()
    assert decoder.table.count == 1000
    assert decoded_series(decoder, sink, blocks[3]) == list(range(3000, 4000))
