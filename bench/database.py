"""promlike as a whole on TimescaleDB: remote write with flushes, bytes a sample, everything read back, restarts with many series.

    python -m bench.database [postgresql://user@host/database] [--hours 24] [--parts write,restart]

Without a URL a PostgreSQL is started in a temporary folder. The schema `promlike_bench` is dropped before and afterwards.

`write`: the fleet (`fleet.py`) sends the last whole days, as fast as it is taken; every answer must be 2xx. The samples go to the database
flush by flush meanwhile. Then the daemon is left alone until it has put the batches of its flushes together, and every sample in the
database is compared with what was sent, and some through the API. `restart`: a million series, two samples each, in the database and in a
DuckDB file; how long a start takes, from the process to the first 200 of `/-/ready`.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import numpy as np

from bench.bodies import make_bodies
from bench.fleet import STEP_SECONDS, Fleet, make_fleet
from bench.ingest import send_all
from bench.postgres import Postgres, postgres
from bench.servers import Server, start
from promlike.storage.timescale.copy import SAMPLE, copy_out
from promlike.storage.timescale.values import value_of

SCHEMA = "promlike_bench"
STEP_MS = STEP_SECONDS * 1000
DAY_MS = 86_400_000
IDS_AT_ONCE = 500
COMPACT_SECONDS = 1800
SIZES = f"""
SELECT (SELECT sum(samples) FROM {SCHEMA}.sample_days)::bigint AS samples, hypertable_size('{SCHEMA}.samples') AS bytes,
    hypertable_size('{SCHEMA}.rollup_5m') + hypertable_size('{SCHEMA}.rollup_1h') AS rollups,
    (SELECT bool_and(compacted = samples) FROM {SCHEMA}.sample_days) AS compacted
"""


class Watch(threading.Thread):
    """The most memory that the daemon, and the database, had while it ran; looked at every half second."""

    def __init__(self, server: Server, database: Postgres | None) -> None:
        super().__init__(daemon=True)
        self._server, self._database = server, database
        self._over = threading.Event()
        self.rss_bytes: list[int] = []
        self.database_bytes = 0

    def run(self) -> None:
        while not self._over.wait(0.5):
            usage = self._server.usage()
            self.rss_bytes.append(usage.rss_bytes if usage else 0)
            if self._database is not None:
                self.database_bytes = max(self.database_bytes, self._database.usage().rss_bytes)

    def end(self) -> None:
        self._over.set()
        self.join()

    def tenths(self) -> str:
        """The most in each tenth of the time, in MB."""
        parts = np.array_split(np.array(self.rss_bytes), 10)
        return " ".join(f"{part.max() / 1e6:.0f}" for part in parts if len(part))


def write(options: argparse.Namespace, url: str, database: Postgres | None, folder: Path) -> None:
    """Send, wait for the daemon's own upkeep, compare."""
    end_ms = int(time.time() * 1000) // DAY_MS * DAY_MS - STEP_MS
    fleet = make_fleet(series=options.series, steps=options.hours * 3600 // STEP_SECONDS, end_ms=end_ms)
    server = start("promlike", folder, _flags(options, url))
    try:
        bodies = make_bodies(fleet, connections=options.connections, samples_per_body=2000)
        _say(f"{fleet.samples / 1e6:.1f} M samples in {sum(map(len, bodies))} bodies; load {os.getloadavg()[0]:.1f}")
        watch = Watch(server, database)
        watch.start()
        cpu = _cpu(server, database)
        began = time.perf_counter()
        slowest = send_all(server.url, bodies)
        sent = time.perf_counter() - began
        _wait_until_stored(server)
        stored = time.perf_counter() - began
        spent = [after - before for after, before in zip(_cpu(server, database), cpu, strict=True)]
        watch.end()
        bodies.clear()
        flushes, flush_seconds = (_metric(server, f"promlike_storage_{name}_total") for name in ("flushes", "flush_seconds"))
        print(f"acknowledged: {fleet.samples / sent / 1e6:.2f} M samples/s, the slowest body after {slowest:.2f} s")
        print(
            f"all in the database: {fleet.samples / stored / 1e6:.2f} M samples/s; {flushes:.0f} flushes, which took {flush_seconds:.0f} s"
        )
        print(f"{stored:.0f} s; CPU seconds: promlike {spent[0]:.0f}, database {spent[1]:.0f}, sender {spent[2]:.0f}")
        print(
            f"memory of promlike, most in each tenth of the time: {watch.tenths()} MB; of the database {watch.database_bytes / 1e6:.0f} MB"
        )
        _print_sizes(asyncio.run(_sizes(url)), "as flushed")
        if options.compact:
            _print_sizes(asyncio.run(_compacted(url)), "put together by the daemon")
        asyncio.run(_compare(url, fleet))
        _compare_answers(server, fleet)
    finally:
        server.stop()


def _flags(options: argparse.Namespace, url: str = "") -> list[str]:
    """Of a daemon on this database, or on the embedded store."""
    database = [f"--storage.url={url}", f"--storage.schema={SCHEMA}"] if url else []
    return [*database, f"--storage.flush-interval={options.flush}"]


def _cpu(server: Server, database: Postgres | None) -> tuple[float, float, float]:
    """CPU seconds so far of daemon, database and this process."""
    usage = server.usage()
    return usage.cpu_seconds if usage else 0.0, database.usage().cpu_seconds if database else 0.0, time.process_time()


def _wait_until_stored(server: Server) -> None:
    """Until nothing waits for a flush any more."""
    while _metric(server, "promlike_storage_unflushed_samples"):
        time.sleep(0.25)


async def _sizes(url: str) -> asyncpg.Record:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchrow(SIZES)
    finally:
        await connection.close()


async def _compacted(url: str) -> asyncpg.Record:
    """Sizes, once the daemon has put the batches of its flushes together."""
    give_up_at = time.monotonic() + COMPACT_SECONDS
    while not (sizes := await _sizes(url))["compacted"]:
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"the daemon has not put batches together within {COMPACT_SECONDS} s")
        await asyncio.sleep(5)
    return sizes


def _print_sizes(sizes: asyncpg.Record, when: str) -> None:
    each = sizes["bytes"] / sizes["samples"]
    print(f"{when}: {sizes['samples']} samples, {each:.2f} bytes a sample with indexes; {sizes['rollups'] / 1e6:.0f} MB of rollups")


async def _compare(url: str, fleet: Fleet) -> None:
    """Every sample of the database, read by COPY, against what was sent. Raises RuntimeError at the first series that differs."""
    began, found = time.perf_counter(), 0
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(f"SELECT id, labels::text AS labels FROM {SCHEMA}.series ORDER BY id")
        row_of = {labels: row for row, labels in enumerate(fleet.labels)}
        at = {row["id"]: row_of[tuple(sorted(json.loads(row["labels"]).items()))] for row in rows}
        if sorted(at.values()) != list(range(len(fleet.labels))):
            raise RuntimeError(f"{len(rows)} series are stored, {len(fleet.labels)} were sent")
        ids = sorted(at)
        for low in range(0, len(ids), IDS_AT_ONCE):
            part = ids[low : low + IDS_AT_ONCE]
            query = f"SELECT ts, series_id, {value_of()} FROM {SCHEMA}.samples WHERE series_id BETWEEN {part[0]} AND {part[-1]}"
            ts_ms, series_id, values = await copy_out(connection, SAMPLE, query)
            order = np.lexsort((ts_ms, series_id))
            found += len(order)
            steps = fleet.values.shape[1]
            places = [at[number] for number in part]
            expected_ms = (fleet.start_ms + np.arange(steps) * STEP_MS)[None, :] + fleet.phase_ms[places, None]
            same = (
                np.array_equal(series_id[order], np.repeat(part, steps))
                and np.array_equal(ts_ms[order], expected_ms.reshape(-1))
                and np.array_equal(values[order].view(np.int64), fleet.values[places].reshape(-1).view(np.int64))
            )
            if not same:
                raise RuntimeError(f"the samples of the series {part[0]} to {part[-1]} are not what was sent")
    finally:
        await connection.close()
    print(f"read back equal: {found} samples of {len(ids)} series, in {time.perf_counter() - began:.0f} s")


def _compare_answers(server: Server, fleet: Fleet) -> None:
    """All raw samples of every hundredth series, as the API gives them."""
    hours, end_s = fleet.values.shape[1] * STEP_SECONDS // 3600 + 1, fleet.end_ms / 1000 + STEP_SECONDS
    rows = range(0, len(fleet.labels), max(len(fleet.labels) // 100, 1))
    for row in rows:
        selector = ",".join(f"{json.dumps(name)}={json.dumps(value)}" for name, value in fleet.labels[row])
        answer = _get(server, f"/api/v1/query?{urlencode({'query': f'{{{selector}}}[{hours}h]', 'time': end_s})}")
        (series,) = json.loads(answer)["data"]["result"]
        times = (fleet.start_ms + np.arange(fleet.values.shape[1]) * STEP_MS + fleet.phase_ms[row]) / 1000
        if [time_s for time_s, _ in series["values"]] != times.tolist() or any(
            float(text) != value for (_, text), value in zip(series["values"], fleet.values[row].tolist(), strict=True)
        ):
            raise RuntimeError(f"the API answers with other samples than were sent for {selector}")
    print(f"read back equal through the API: all samples of {len(rows)} series")


def restart(options: argparse.Namespace, flags: Sequence[str], name: str, folder: Path, database: Postgres | None) -> None:
    """Bring many series into a store, then start on it: after a stop, after kill -9, which leaves the last samples in the log."""
    fleet = make_fleet(series=options.many, steps=2, end_ms=int(time.time() * 1000))
    bodies = make_bodies(fleet, connections=options.connections, samples_per_body=2000)
    with _running(folder, flags) as server:
        began = time.perf_counter()
        send_all(server.url, bodies)
        sent = time.perf_counter() - began
        _wait_until_stored(server)
        stored = time.perf_counter() - began
        loaded = server.usage()
    size = f", {loaded.rss_bytes / 1e6:.0f} MB" if loaded else ""
    print(f"{name}: {options.many} new series, {fleet.samples} samples in {sent:.1f} s, stored after {stored:.1f} s{size}")
    for after in ("a stop", "kill -9 with 2 samples of each in the log"):
        before = database.usage().cpu_seconds if database else 0.0
        with _running(folder, flags) as server:
            usage = server.usage()
            cpu = f"CPU seconds: promlike {usage.cpu_seconds:.1f}" if usage else ""
            if database is not None:
                cpu += f", database {database.usage().cpu_seconds - before:.1f}"
            size = f"{usage.rss_bytes / 1e6:.0f} MB (at most {usage.peak_rss_bytes / 1e6:.0f} MB)" if usage else ""
            found = _metric(server, "prometheus_tsdb_head_series")
            print(f"{name}, after {after}: ready in {server.ready_seconds:.2f} s with {found:.0f} series, {size}; {cpu}")
            if after == "a stop" and server.process is not None:
                send_all(server.url, make_bodies(_later(fleet), connections=options.connections, samples_per_body=2000))
                server.process.kill()
                server.process.wait()


@contextmanager
def _running(folder: Path, flags: Sequence[str]) -> Iterator[Server]:
    """A daemon that is stopped at the end, unless it was killed before."""
    server = start("promlike", folder, flags)
    try:
        yield server
    finally:
        server.stop()


def _later(fleet: Fleet) -> Fleet:
    """The same series, a little later."""
    return Fleet(labels=fleet.labels, values=fleet.values, phase_ms=fleet.phase_ms, start_ms=fleet.start_ms + 2 * STEP_MS)


def _metric(server: Server, name: str) -> float:
    lines = _get(server, "/metrics").decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def _get(server: Server, path: str) -> bytes:
    with urllib.request.urlopen(server.url + path, timeout=120) as answer:
        body: bytes = answer.read()
        return body


async def _drop(url: str) -> None:
    connection: Any = await asyncpg.connect(url)
    try:
        await connection.execute("SET client_min_messages = warning")
        await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA}_metric CASCADE")
    finally:
        await connection.close()


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="bench-database-", dir=options.folder)))
        database = None if options.url else cleanup.enter_context(postgres(options.folder))
        url = options.url or (database.url if database else "")
        asyncio.run(_drop(url))
        cleanup.callback(lambda: asyncio.run(_drop(url)))
        if "write" in options.parts:
            write(options, url, database, folder / "write")
        if "restart" in options.parts:
            asyncio.run(_drop(url))
            restart(options, _flags(options, url), "TimescaleDB", folder / "timescaledb", database)
            restart(options, _flags(options), "DuckDB", folder / "duckdb", None)
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.database", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("url", nargs="?", help="a database to use instead of one started for this")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=["write", "restart"], help="what to measure, by commas")
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--hours", type=int, default=24, help="of samples, 15 s apart, the last one yesterday")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--flush", default="10s", help="flush interval")
    parser.add_argument("--no-compact", dest="compact", action="store_false", help="do not wait for the daemon to put batches together")
    parser.add_argument("--many", type=int, default=1_000_000, help="series of the restarts")
    parser.add_argument("--folder", type=Path, help="where data folders are made (default: the temporary folder)")
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
