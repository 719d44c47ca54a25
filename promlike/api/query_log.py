"""The query log: one JSON object a line for every query that ended, in Prometheus's form with Grafana's headers beside the request."""

import logging
import os
import queue
import threading
from datetime import UTC, datetime
from pathlib import Path

import orjson

from promlike.api.query_answer import timings
from promlike.api.running import RunningQuery
from promlike.errors import ConfigError

log = logging.getLogger(__name__)

MOST_WAITING = 10_000
"""Lines that may wait for the disk; more are dropped and counted, so that a disk that hangs costs no memory."""

LINES_AT_ONCE = 1000


class QueryLog:
    """Writes lines in a thread of its own. `open` at start and whenever the configuration was read; `close` at the end.

    A file that was moved away is made anew, so it may be rotated with or without telling.
    """

    def __init__(self) -> None:
        self.failures = 0
        """Lines that could not be written."""
        self._path: Path | None = None
        self._file = -1
        self._lock = threading.Lock()
        self._lines: queue.Queue[bytes | None] = queue.Queue(MOST_WAITING)
        self._writer: threading.Thread | None = None
        self._failed = False

    @property
    def is_on(self) -> bool:
        return self._path is not None

    def open(self, file: str) -> None:
        """Write to this file from now on, to none when it is "". Raises ConfigError, and goes on as before, when it cannot be opened."""
        path = Path(file) if file else None
        try:
            opened = _open(path) if path is not None else -1
        except OSError as error:
            raise ConfigError([f"query_log_file: cannot open {file}: {error.strerror}"]) from error
        with self._lock:
            old, self._file, self._path = self._file, opened, path
        if old >= 0:
            os.close(old)
        if path is not None and self._writer is None:
            self._writer = threading.Thread(target=self._write_all, name="query-log", daemon=True)
            self._writer.start()

    def close(self) -> None:
        """Write what waits and close the file; idempotent."""
        if self._writer is not None:
            self._lines.put(None)
            self._writer.join()
            self._writer = None
        with self._lock:
            old, self._file, self._path = self._file, -1, None
        if old >= 0:
            os.close(old)

    def log(self, query: RunningQuery) -> None:
        """Note a query that ended; never waits."""
        if self._path is None:
            return
        try:
            self._lines.put_nowait(orjson.dumps(_entry(query)) + b"\n")
        except queue.Full:
            self.failures += 1

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            lines = [line]
            while len(lines) < LINES_AT_ONCE and not self._lines.empty():
                following = self._lines.get()
                if following is None:
                    self._write(lines)
                    return
                lines.append(following)
            self._write(lines)

    def _write(self, lines: list[bytes]) -> None:
        try:
            with self._lock:
                self._renew()
                if self._file >= 0:
                    os.write(self._file, b"".join(lines))
        except OSError as error:
            self.failures += len(lines)
            if not self._failed:
                log.warning("queries cannot be logged to %s: %s", self._path, error.strerror)
            self._failed = True
        else:
            self._failed = False

    def _renew(self) -> None:
        """Open the file again when another one, or none, has its name now."""
        if self._path is None or self._file < 0:
            return
        try:
            is_same = os.path.samestat(self._path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            is_same = False
        if not is_same:
            opened = _open(self._path)
            os.close(self._file)
            self._file = opened


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _entry(query: RunningQuery) -> dict[str, object]:
    """The object of one line."""
    origin = query.origin
    entry: dict[str, object] = {
        "params": {
            "end": _utc(query.end_ms),
            "query": query.text.encode("utf-8", "replace").decode(),
            "start": _utc(query.start_ms),
            "step": query.step_ms // 1000 if query.step_ms % 1000 == 0 else query.step_ms / 1000,
        },
        "httpRequest": {"clientIP": origin.client_ip, "method": origin.method, "path": origin.path},
        "ts": _utc(round(query.began_at * 1000 + query.seconds * 1000)),
    }
    if origin.headers:
        entry["httpRequest"] = {"clientIP": origin.client_ip, "method": origin.method, "path": origin.path, "headers": dict(origin.headers)}
    if query.stats is not None:
        entry["stats"] = {
            "timings": timings(query.stats),
            "samples": {
                "totalQueryableSamples": query.stats.total_samples,
                "samplesRead": query.stats.samples_read,
                "peakSamples": query.stats.peak_samples,
            },
        } | ({"rows": query.rows} if query.rows else {})
    if query.error:
        entry["error"] = query.error
    return entry


def _utc(ms: int) -> str:
    """RFC 3339 with milliseconds; years that calendars of Python do not have are given in milliseconds."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return f"{ms}ms"
