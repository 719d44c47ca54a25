"""Reading the write-ahead log after a start: what was acknowledged comes back, what was torn is cut."""

import itertools
import logging
import mmap
import os
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from promlike.storage.store import WalPosition
from promlike.storage.wal_records import HEADER, SEGMENT_MAGIC, RecordType, decode_follows, padded

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WalRecord:
    """One intact record; the payload is valid until the next one is asked for."""

    kind: RecordType
    payload: memoryview


@dataclass(slots=True, kw_only=True)
class ReplayReport:
    """What a replay met so far, for the log and the metrics: the first, the current and the last segment it reads, and records of these.

    Written by the replaying thread, read by any.
    """

    records: int = 0
    bytes: int = 0
    torn_bytes: int = 0
    corruptions: list[str] = field(default_factory=list)
    first_segment: int = 0
    segment: int = 0
    last_segment: int = 0
    begun: bool = False


def segment_path(folder: Path, segment: int) -> Path:
    return folder / f"{segment:08d}.wal"


def segments_of(folder: Path) -> list[int]:
    """The numbers of the segments in a folder, ascending."""
    return sorted(int(path.stem) for path in folder.glob("*.wal") if path.stem.isdigit())


def end_of_log(folder: Path, start: WalPosition | None) -> WalPosition:
    """The place behind everything in the log, or `start` when the log ends before it.

    Exactly there, because a flush may store it before anything else is written, and a later replay then begins there.
    """
    reached = start or WalPosition(segment=0, offset=0)
    segments = segments_of(folder)
    if not segments or segments[-1] < reached.segment:
        return reached
    size = segment_path(folder, segments[-1]).stat().st_size
    return WalPosition(segment=segments[-1], offset=max(size, reached.offset) if segments[-1] == reached.segment else size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Something of the log is missing before a segment, which begins where another, or the same one longer, ended."""

    path: Path
    follows: WalPosition


def gap_behind(folder: Path, stored: WalPosition | None) -> Gap | None:
    """What keeps the log from going on where what is stored ends, if anything does. Nothing is missing when there is no log at all.

    A segment that was begun before its beginning was written down (by an older promlike) is taken for a continuation.
    """
    reached = stored or WalPosition(segment=0, offset=0)
    for segment in segments_of(folder):
        if segment < reached.segment:
            continue
        path = segment_path(folder, segment)
        size = path.stat().st_size
        if segment == reached.segment:
            return None  # and if what follows is not whole, replay finds that
        if size > len(SEGMENT_MAGIC):
            follows = _follows(path)
            return Gap(path=path, follows=follows) if follows not in (None, reached) else None
        reached = WalPosition(segment=segment, offset=size)  # only begun, and cut since
    return None


def _follows(path: Path) -> WalPosition | None:
    """Where the log ended before a segment, if that stands in it, intact."""
    with path.open("rb") as file:
        data = memoryview(file.read(len(SEGMENT_MAGIC) + 2 * HEADER.size))
    found = _record(data, len(SEGMENT_MAGIC)) if data[: len(SEGMENT_MAGIC)] == SEGMENT_MAGIC else ""
    if isinstance(found, str) or found[0] is not RecordType.FOLLOWS:
        return None
    return decode_follows(data[len(SEGMENT_MAGIC) + HEADER.size :])


def replay(folder: Path, start: WalPosition | None, report: ReplayReport) -> Iterator[WalRecord]:
    """Every intact record at or after `start`, in order.

    A record that the end of the last segment cuts off was never acknowledged: it is cut from the file with a warning. Anything else that is
    damaged is logged as an error that names file and offset; what stands before it was delivered, it and everything after it is set aside
    in files named `*.corrupt`.
    """
    segments = [segment for segment in segments_of(folder) if start is None or segment >= start.segment]
    report.begun = True
    report.first_segment, report.last_segment = (segments[0], segments[-1]) if segments else (0, 0)
    for i, segment in enumerate(segments):
        report.segment = segment
        path = segment_path(folder, segment)
        offset = start.offset if start is not None and segment == start.segment else len(SEGMENT_MAGIC)
        if path.stat().st_size == 0:
            continue  # created, and never written to
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as area, memoryview(area) as data:
            damage = None
            if data[: len(SEGMENT_MAGIC)] != SEGMENT_MAGIC:
                offset, damage = 0, "the file does not begin as a segment does"
            while damage is None and offset < len(data):
                found = _record(data, offset)
                if isinstance(found, str):
                    damage = found
                    break
                kind, length = found
                if kind is not RecordType.FOLLOWS:
                    payload = data[offset + HEADER.size : offset + HEADER.size + length]
                    try:
                        yield WalRecord(kind=kind, payload=payload)
                    finally:
                        payload.release()  # else the file could not be closed
                    report.records += 1
                offset += HEADER.size + padded(length)
            report.bytes += len(data)
            torn = damage is not None and i == len(segments) - 1 and _is_tail(data, offset)
            size = len(data)
        if torn:
            log.warning("WAL %s ends in a torn record at offset %d: %d bytes, never acknowledged, are cut", path, offset, size - offset)
            report.torn_bytes += size - offset
            _cut(path, offset)
        elif damage is not None:
            message = f"WAL {path} is corrupt at offset {offset}: {damage}"
            log.error("%s; everything before is kept, the rest is set aside", message)
            report.corruptions.append(message)
            _set_rest_aside(folder, path, offset, segments[i + 1 :])
            return


def _record(data: memoryview, offset: int) -> tuple[RecordType, int] | str:
    """Type and payload length of the record at an offset, or what is wrong with it."""
    if offset + HEADER.size > len(data):
        return "a header is cut off"
    length, crc, kind, check = HEADER.unpack_from(data, offset)
    if zlib.crc32(data[offset : offset + HEADER.size - 4]) != check:
        return "a header's checksum does not fit"
    if offset + HEADER.size + padded(length) > len(data):
        return f"a record of {length} bytes is cut off"
    start = offset + HEADER.size
    if zlib.crc32(data[start : start + length], kind) != crc:
        return f"the checksum of a record of {length} bytes does not fit"
    if kind not in frozenset(RecordType):
        return f"unknown record type {kind}"
    return RecordType(kind), length


def _is_tail(data: memoryview, offset: int) -> bool:
    """Is the damage at an offset what an interrupted write leaves? Then no intact record follows it.

    Records stand at multiples of 8 bytes, headers carry their own checksum: a few candidates survive a look at the header alone.
    """
    if offset < len(SEGMENT_MAGIC):
        return len(data) < len(SEGMENT_MAGIC)
    return not any(not isinstance(_record(data, at), str) for at in range(offset + 8, len(data) - HEADER.size + 1, 8))


def _cut(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.truncate(offset)
        os.fsync(file.fileno())


def set_aside(folder: Path, segments: list[int], why: str) -> None:
    """Rename segments, so that they belong to the log no more."""
    for segment in reversed(segments):
        path = segment_path(folder, segment)
        path.rename(_free_name(path.with_name(f"{path.name}.{why}")))


def _set_rest_aside(folder: Path, path: Path, offset: int, later: list[int]) -> None:
    # The later ones first: if the process ends in between, the next start finds the damage again and the rest to do.
    set_aside(folder, later, "corrupt")
    aside = _free_name(path.with_name(f"{path.name}.{offset}.corrupt"))
    with path.open("rb") as file, aside.open("wb") as copy:
        file.seek(offset)
        shutil.copyfileobj(file, copy)
        copy.flush()
        os.fsync(copy.fileno())
    _cut(path, offset)


def _free_name(path: Path) -> Path:
    """This name, or one like it that no file has: numbers of segments come again after some were set aside."""
    names = (path.with_name(f"{path.name}{number or ''}") for number in itertools.count())
    return next(name for name in names if not name.exists())
