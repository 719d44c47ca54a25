"""The write-ahead log: what was synced comes back, whatever happened to the rest."""

import asyncio
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from promlike.errors import StorageUnavailable
from promlike.model.labels import labels
from promlike.storage.access import Metadata
from promlike.storage.store import SeriesRecord, WalPosition
from promlike.storage.wal import WalCommitter, WalWriter
from promlike.storage.wal_records import (
    SEGMENT_MAGIC,
    RecordType,
    decode_metadata,
    decode_samples,
    decode_series,
    encode_metadata,
    encode_record,
    encode_samples,
    encode_series,
)
from promlike.storage.wal_replay import ReplayReport, end_of_log, replay, segment_path, segments_of


def payloads(folder: Path, start: WalPosition | None = None, report: ReplayReport | None = None) -> list[bytes]:
    return [bytes(record.payload) for record in replay(folder, start, report if report is not None else ReplayReport())]


def record(text: str) -> bytes:
    return encode_record(RecordType.SERIES, text.encode())


def written(folder: Path, *groups: list[str], segment_bytes: int = 1 << 20) -> list[WalPosition]:
    """A log of these groups; returns the position after each."""
    writer = WalWriter(folder, segment_bytes)
    writer.open(WalPosition(segment=0, offset=0))
    positions = [writer.write(b"".join(map(record, group))) for group in groups]
    writer.close()
    return positions


@pytest.mark.parametrize("span", [0, 1000, 2**32 - 1, 2**32, 2**50])
def test_samples_come_back_bit_for_bit(span: int) -> None:
    refs = np.array([3, 1, 2], np.int32)
    ts = np.array([span, 0, 5], np.int64) - 77
    values = np.array([0x7FF0000000000002, 0x7FF8000000000001, 0x8000000000000000], np.uint64).view(np.float64)
    data = encode_samples(refs, ts, values)
    back = decode_samples(memoryview(data)[16:])
    assert (back.refs.tolist(), back.ts_ms.tolist()) == (refs.tolist(), ts.tolist())
    assert back.values.view(np.uint64).tolist() == values.view(np.uint64).tolist()
    assert len(data) % 8 == 0


def test_series_and_metadata_come_back() -> None:
    series = [SeriesRecord(ref=7, labels=labels({"__name__": 'm"', "ü": "\n✓"}))]
    assert [(s.ref, s.labels) for s in decode_series(_payload(encode_series(series)))] == [(7, series[0].labels)]
    metadata = [Metadata(metric="up", type="gauge", help="a\nb", unit="s")]
    assert decode_metadata(_payload(encode_metadata(metadata))) == metadata


def _payload(data: bytes) -> memoryview:
    return memoryview(data)[16 : 16 + int.from_bytes(data[:4], "little")]


def test_a_torn_tail_is_cut_at_every_byte(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    written(tmp_path, ["one", "two"], ["the last record, torn somewhere"])
    path = segment_path(tmp_path, 1)
    whole = path.read_bytes()
    start = len(whole) - len(record("the last record, torn somewhere"))
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        report = ReplayReport()
        caplog.clear()
        assert payloads(tmp_path, report=report) == [b"one", b"two"]
        assert path.stat().st_size == start
        assert report.torn_bytes == end - start
        assert ("torn" in caplog.text) is (end > start)
        assert not report.corruptions
    path.write_bytes(whole)
    assert len(payloads(tmp_path)) == 3


def test_a_tail_whose_pages_never_arrived_is_cut(tmp_path: Path) -> None:
    written(tmp_path, ["one"])
    path = segment_path(tmp_path, 1)
    size = path.stat().st_size
    for garbage in (b"\0" * 100, record("x" * 50)[:20] + b"\0" * 46, b"\xff" * 37):
        with path.open("ab") as file:
            file.write(garbage)
        report = ReplayReport()
        assert payloads(tmp_path, report=report) == [b"one"]
        assert path.stat().st_size == size
        assert report.torn_bytes == len(garbage)


@pytest.mark.parametrize("at", ["length", "crc", "type", "header crc", "payload"])
def test_corruption_in_the_middle_is_an_error_that_keeps_what_stands_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, at: str
) -> None:
    positions = written(tmp_path, ["one"], ["two"], ["three"])
    path = segment_path(tmp_path, 1)
    data = bytearray(path.read_bytes())
    place = positions[0].offset + {"length": 1, "crc": 4, "type": 8, "header crc": 12, "payload": 16}[at]
    data[place] ^= 0x40
    path.write_bytes(data)
    report = ReplayReport()
    assert payloads(tmp_path, report=report) == [b"one"]
    assert f"{path} is corrupt at offset {positions[0].offset}" in report.corruptions[0]
    assert [each.levelno for each in caplog.records] == [logging.ERROR]
    assert (tmp_path / f"00000001.wal.{positions[0].offset}.corrupt").read_bytes() == data[positions[0].offset :]
    assert payloads(tmp_path) == [b"one"]


def test_segments_after_a_corrupt_one_are_set_aside(tmp_path: Path) -> None:
    written(tmp_path, ["one"], ["two"], ["three"], segment_bytes=1)
    path = segment_path(tmp_path, 2)
    path.write_bytes(path.read_bytes()[:-8])
    report = ReplayReport()
    assert payloads(tmp_path, report=report) == [b"one"]
    assert len(report.corruptions) == 1
    assert segments_of(tmp_path) == [1, 2]
    assert (tmp_path / "00000003.wal.corrupt").exists()


def test_a_file_that_is_no_segment_is_corrupt(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(b"something else entirely")
    report = ReplayReport()
    assert payloads(tmp_path, report=report) == []
    assert "does not begin as a segment" in report.corruptions[0]


@pytest.mark.parametrize("size", range(len(SEGMENT_MAGIC) + 1))
def test_a_segment_that_was_only_begun_is_empty(tmp_path: Path, size: int) -> None:
    written(tmp_path, ["one"])
    segment_path(tmp_path, 2).write_bytes(SEGMENT_MAGIC[:size])
    report = ReplayReport()
    assert payloads(tmp_path, report=report) == [b"one"]
    assert not report.corruptions


def test_replay_starts_at_a_position(tmp_path: Path) -> None:
    positions = written(tmp_path, ["one", "two"], ["three"], ["four"], segment_bytes=60)
    assert payloads(tmp_path, positions[0]) == [b"three", b"four"]
    assert payloads(tmp_path, positions[1]) == [b"four"]
    assert payloads(tmp_path, positions[2]) == []
    assert payloads(tmp_path, WalPosition(segment=99, offset=8)) == []


def test_what_was_set_aside_is_never_written_over(tmp_path: Path) -> None:
    for text in (b"broken", b"broken again"):
        written(tmp_path, ["one"], ["two"], segment_bytes=1)
        segment_path(tmp_path, 1).write_bytes(text)
        assert payloads(tmp_path) == []
        segment_path(tmp_path, 1).unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000001.wal.0.corrupt",
        "00000001.wal.0.corrupt1",
        "00000002.wal.corrupt",
        "00000002.wal.corrupt1",
    ]
    assert (tmp_path / "00000001.wal.0.corrupt").read_bytes() == b"broken"


def test_the_end_is_behind_everything_that_is_or_was_in_the_log(tmp_path: Path) -> None:
    nowhere, stored = WalPosition(segment=0, offset=0), WalPosition(segment=3, offset=70)
    assert end_of_log(tmp_path, None) == nowhere
    assert end_of_log(tmp_path, stored) == stored
    last = written(tmp_path, ["one"], ["two"], ["a record that is longer than its segment may be"], segment_bytes=30)[-1]
    assert last.offset > stored.offset
    for start in (None, WalPosition(segment=1, offset=8), stored, last):
        assert end_of_log(tmp_path, start) == last
    for beyond in (WalPosition(segment=3, offset=last.offset + 8), WalPosition(segment=4, offset=8)):
        assert end_of_log(tmp_path, beyond) == beyond
    assert payloads(tmp_path, last) == []


def test_flushed_segments_are_dropped(tmp_path: Path) -> None:
    writer = WalWriter(tmp_path, 1)
    writer.open(WalPosition(segment=4, offset=8))
    for text in ("a", "b", "c"):
        writer.write(record(text))
    assert segments_of(tmp_path) == [5, 6, 7]
    assert writer.drop_before(7) == 2
    assert segments_of(tmp_path) == [7]
    assert writer.bytes == segment_path(tmp_path, 7).stat().st_size
    writer.close()


async def commit(committer: WalCommitter, *texts: str) -> list[str]:
    """Submit records together; what became of them, in the order it was told."""
    told: list[str] = []
    loop = asyncio.get_running_loop()
    done = [loop.create_future() for _ in texts]
    for text, future in zip(texts, done, strict=True):

        def applied(text: str = text, future: "asyncio.Future[None]" = future) -> None:
            told.append(text)
            future.set_result(None)

        def failed(error: OSError, text: str = text, future: "asyncio.Future[None]" = future) -> None:
            told.append(f"{text} failed")
            future.set_result(None)

        committer.submit(record(text), applied, failed)
    await asyncio.gather(*done)
    return told


async def test_callers_share_syncs_and_are_told_in_order(tmp_path: Path) -> None:
    writer = WalWriter(tmp_path, 1 << 20)
    writer.open(WalPosition(segment=0, offset=0))
    committer = WalCommitter(writer, max_pending_bytes=1 << 20)
    texts = [str(i) for i in range(100)]
    assert await commit(committer, *texts) == texts
    assert writer.syncs < 5
    await committer.close()
    assert payloads(tmp_path) == [text.encode() for text in texts]


class FullDisk(WalWriter):
    """A disk that takes only so many more bytes, and can be told of new space."""

    room = 1 << 30

    def write(self, data: bytes) -> WalPosition:
        if len(data) <= self.room:
            self.room -= len(data)
            return super().write(data)
        read_end, write_end = os.pipe()
        os.close(read_end)
        keep, self._file = self._file, write_end  # a descriptor that cannot be written to, nor cut
        try:
            return super().write(data)
        finally:
            os.close(write_end)
            self._file = keep


async def test_a_write_that_fails_is_told_and_leaves_a_clean_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    writer = FullDisk(tmp_path, 1 << 20)
    writer.open(WalPosition(segment=0, offset=0))
    committer = WalCommitter(writer, max_pending_bytes=1 << 20)
    assert await commit(committer, "kept") == ["kept"]
    writer.room = 0
    assert await commit(committer, "lost", "lost too") == ["lost failed", "lost too failed"]
    assert await commit(committer, "still lost") == ["still lost failed"]
    assert committer.failures == 2
    writer.room = 1 << 20
    assert await commit(committer, "kept again") == ["kept again"]
    assert await commit(committer, "as before") == ["as before"]
    assert committer.pending_bytes == 0
    said = [line.partition(",")[0] for line in caplog.messages]
    assert said == ["the WAL cannot be written", "the WAL is written again"]  # once each
    await committer.close()
    report = ReplayReport()
    assert payloads(tmp_path, report=report) == [b"kept", b"kept again", b"as before"]
    assert not report.corruptions
    assert not report.torn_bytes


async def test_overload_is_refused(tmp_path: Path) -> None:
    writer = WalWriter(tmp_path, 1 << 20)
    writer.open(WalPosition(segment=0, offset=0))
    committer = WalCommitter(writer, max_pending_bytes=100)
    waiting = asyncio.create_task(commit(committer, "x" * 200))
    await asyncio.sleep(0)
    with pytest.raises(StorageUnavailable, match="wait for the WAL"):
        committer.check_room()
    await waiting
    committer.check_room()
    await committer.close()
