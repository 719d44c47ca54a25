"""The write-ahead log: what was appended is on disk before anybody is told so.

Callers on the event loop hand in records; one write at a time runs in a thread, and takes along everything that came in meanwhile, so
many callers share one sync. Segments are opened with O_DSYNC: a write returns when its bytes are on disk, in one system call, which matters
because the thread has to win the GIL back after each.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from promlike.errors import StorageUnavailable
from promlike.storage.store import WalPosition
from promlike.storage.wal_records import encode_segment_head
from promlike.storage.wal_replay import segment_path, segments_of

log = logging.getLogger(__name__)

TURN_SECONDS = 0.005
"""How long applying what was written may keep the event loop."""


class WalWriter:
    """The files of the log; used by one thread at a time. A write that fails is cut back, so that a later one finds a clean end."""

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._file: int | None = None
        self._damaged = False
        self.position = WalPosition(segment=0, offset=0)
        self.bytes = 0
        """The size of all segments."""
        self.syncs = 0

    def open(self, end: WalPosition) -> None:
        """Go on behind the end of the log, which was read up to there, in a new segment; the folder exists."""
        self.position = end
        self.bytes = sum(segment_path(self._folder, segment).stat().st_size for segment in segments_of(self._folder))

    def write(self, data: bytes) -> WalPosition:
        """Append whole records and sync; return the position after them. Raises OSError, and then nothing was added."""
        if self._file is None or self._damaged or self.position.offset >= self._segment_bytes:
            self._begin_segment()
        file, start = self._file, self.position.offset
        if file is None:
            raise OSError("no segment is open")
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(file, view) :]
        except OSError:
            # After a failed sync the kernel may have dropped pages it calls clean, so this file's end is not written to again.
            self._damaged = True
            self._cut_back()
            raise
        self.syncs += 1
        self.bytes += len(data)
        self.position = WalPosition(segment=self.position.segment, offset=start + len(data))
        return self.position

    def _cut_back(self) -> None:
        """Leave the open segment as it was after its last good write; raises OSError when even that fails."""
        if self._file is not None:
            os.ftruncate(self._file, self.position.offset)
            os.fsync(self._file)

    def _begin_segment(self) -> None:
        if self._damaged:
            self._cut_back()  # a segment that has a successor must end in a whole record
        self.close()
        segment, head = self.position.segment + 1, encode_segment_head(self.position)
        path = segment_path(self._folder, segment)
        # O_TRUNC: a file of this number can only be the rest of an attempt that failed below.
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_DSYNC | os.O_CLOEXEC, 0o644)
        try:
            if os.write(file, head) != len(head):
                raise OSError(f"{path}: the segment's first bytes were not written")
            _sync_folder(self._folder)
        except OSError:
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        self._file = file
        self._damaged = False
        self.bytes += len(head)
        self.position = WalPosition(segment=segment, offset=len(head))

    def drop_before(self, segment: int) -> int:
        """Delete segments older than this one; return how many."""
        old = [segment_path(self._folder, number) for number in segments_of(self._folder) if number < segment]
        for path in old:
            size = path.stat().st_size
            path.unlink()
            self.bytes -= size
        return len(old)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(slots=True, kw_only=True, eq=False)
class _Entry:
    """A record on its way to disk. `apply` runs on the loop, in the order of the log, once it is there."""

    data: bytes
    apply: Callable[[], None]
    failed: Callable[[OSError], None]


class WalCommitter:
    """Group commit. All methods belong to the event loop's thread."""

    def __init__(self, writer: WalWriter, *, max_pending_bytes: int, max_bytes: int = 0) -> None:
        self._writer = writer
        self._max_pending_bytes = max_pending_bytes
        self._max_bytes = max_bytes
        self._pending: list[_Entry] = []
        self._pending_bytes = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="wal")
        self._running: asyncio.Task[None] | None = None
        self.applied = writer.position
        """Everything before this position has been applied."""
        self.bytes_written = 0
        self.failures = 0
        self._failing = False

    @property
    def pending_bytes(self) -> int:
        return self._pending_bytes

    @property
    def disk_bytes(self) -> int:
        """The size of the log's files."""
        return self._writer.bytes

    @property
    def is_half_full(self) -> bool:
        """Is it time for a flush, so that the log does not become full?"""
        return 0 < self._max_bytes <= 2 * self.disk_bytes

    def check_room(self) -> None:
        """Raise StorageUnavailable when the disk does not keep up."""
        if self._pending_bytes > self._max_pending_bytes:
            raise StorageUnavailable(f"{self._pending_bytes} bytes wait for the WAL already (limit {self._max_pending_bytes})")

    def check_size(self) -> None:
        """Raise StorageUnavailable when the log is as large as it may become."""
        if 0 < self._max_bytes <= self.disk_bytes + self._pending_bytes:
            raise StorageUnavailable(
                f"the WAL holds {self.disk_bytes} bytes that the store has not taken yet, its limit (--storage.wal-max-size) is"
                f" {self._max_bytes}: samples are refused until the store takes them"
            )

    def submit(self, data: bytes, apply: Callable[[], None], failed: Callable[[OSError], None]) -> None:
        """Queue a record. Either `apply` or `failed` is called, exactly once, later, from the loop."""
        self._pending.append(_Entry(data=data, apply=apply, failed=failed))
        self._pending_bytes += len(data)
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._run(), name="wal-commit")

    async def drain(self) -> None:
        """Wait until nothing is on its way."""
        while self._running is not None:
            await asyncio.shield(self._running)

    async def close(self) -> None:
        await self.drain()
        self._executor.shutdown(wait=True)
        self._writer.close()

    async def drop_before(self, segment: int) -> int:
        """Delete flushed segments, in the log's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._writer.drop_before, segment)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._pending:
                group, self._pending = self._pending, []
                data = b"".join([entry.data for entry in group])
                try:
                    position = await loop.run_in_executor(self._executor, self._writer.write, data)
                except OSError as error:
                    self.failures += 1
                    if not self._failing:
                        log.error("the WAL cannot be written, what comes is refused until it can: %s", error)
                    self._failing = True
                    # What was queued meanwhile may rest on a series record that is lost now, so it fails as well.
                    group, self._pending = group + self._pending, []
                    self._settle(group)
                    for entry in group:
                        entry.failed(error)
                else:
                    if self._failing:
                        self._failing = False
                        log.info("the WAL is written again")
                    self.bytes_written += len(data)
                    await self._apply(group, WalPosition(segment=position.segment, offset=position.offset - len(data)))
        finally:
            self._running = None

    async def _apply(self, group: list[_Entry], start: WalPosition) -> None:
        """Apply records that stand in the log from `start` on; between two of them others may have the loop, or begin a flush."""
        turn, offset = perf_counter(), start.offset
        for entry in group:
            if perf_counter() - turn > TURN_SECONDS:
                await asyncio.sleep(0)
                turn = perf_counter()
            self._pending_bytes -= len(entry.data)
            offset += len(entry.data)
            entry.apply()
            self.applied = WalPosition(segment=start.segment, offset=offset)

    def _settle(self, group: list[_Entry]) -> None:
        self._pending_bytes -= sum(len(entry.data) for entry in group)
