"""`python -m bench.budget`: 100 heavy queries at once under a budget of memory, while samples come in.

A server of our own gets the fleet of 10,000 series x 1440 samples. Then all queries are sent at once, each on a connection of its own, and
some clients read their answers slowly; meanwhile every series gets new samples, over and over. What is printed: the statuses, how much
memory the process took at most above what it took before (looked at every 5 ms), what of that it still has afterwards, and how ingestion
went on. `--stored` starts the server again in between, so that the store's reads are measured instead of those of the head.
"""

import argparse
import http.client
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlencode, urlsplit

import numpy as np

from bench.bodies import make_bodies
from bench.fleet import STEP_SECONDS, Fleet, make_fleet
from bench.ingest import ingest, send
from bench.servers import Server, process_usage, settle, start

LIVE = 120
"""Steps that are left for ingestion beside the queries: 30 minutes, the last 8 of them ahead of the clock."""
EVERYTHING = '{__name__=~".+"}'
HISTOGRAM = "http_request_duration_seconds_bucket"
COUNTERS = f'{{__name__=~"{HISTOGRAM}|http_requests_total|node_cpu_seconds_total"}}'
"""Five of six series; their labels differ without their names, too."""

QUERIES: dict[str, tuple[str, int]] = {
    "sum of rates": (f"sum by (job) (rate({COUNTERS}[5m]))", 60),
    "rates": (f"rate({COUNTERS}[5m])", 120),
    "points": (f"{HISTOGRAM}", 60),
    "topk": (f"topk(100, rate({COUNTERS}[5m]))", 60),
    "quantile_over_time": (f"quantile_over_time(0.9, {HISTOGRAM}[30m])", 120),
    "subquery": (f"max_over_time(rate({COUNTERS}[5m])[30m:1m])", 300),
    "quantile": (f"quantile by (job) (0.9, {EVERYTHING})", 30),
    "ratio": (f"{HISTOGRAM} / {HISTOGRAM} > 0", 60),
    "join": (f"rate({HISTOGRAM}[5m]) * on (instance) group_left (version) app_build_info", 60),
    "label_replace": (f'sort_desc(label_replace({EVERYTHING}, "copy", "$1", "instance", "(.+)"))', 300),
    "histogram_quantile": (f"histogram_quantile(0.9, rate({HISTOGRAM}[5m]))", 60),
    "matrix": (f"{EVERYTHING}[20m]", 0),
    "matrix, too large": (f"{EVERYTHING}[6h]", 0),
    "count_values": (f'count_values("v", {HISTOGRAM} % 7)', 60),
}
"""Text and step in seconds over six hours; step 0: an instant query."""


@dataclass(slots=True)
class Watch:
    """The memory of a process, sampled by a thread."""

    pid: int
    base_bytes: int
    peak_bytes: int = 0
    profile: list[int] = field(default_factory=list)
    """The most of every second."""

    @contextmanager
    def running(self) -> Iterator[None]:
        stop = Event()

        def watch() -> None:
            began, second = time.monotonic(), -1
            while not stop.wait(0.005):
                now = resident(self.pid)
                self.peak_bytes = max(self.peak_bytes, now)
                if int(time.monotonic() - began) > second:
                    second = int(time.monotonic() - began)
                    self.profile.append(now)
                self.profile[-1] = max(self.profile[-1], now)

        thread = Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One query: its name, the status (0: no answer), bytes of the body, seconds, and the error it was refused with."""

    name: str
    status: int
    size: int
    seconds: float
    error: str = ""


def resident(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    fleet = make_fleet(series=options.series, steps=options.samples + LIVE, end_ms=int(time.time() * 1000) + 480_000)
    now = fleet.end_ms // 1000 - LIVE * STEP_SECONDS
    past, later = split(fleet, options.samples)
    folder = Path(tempfile.mkdtemp(prefix="bench-budget-"))
    flags = [f"--query.max-total-memory={options.memory}", *options.flag]
    server = start("promlike", folder, flags)
    try:
        ingest(server, make_bodies(past, connections=4, samples_per_body=2000), past.samples)
        del past
        if options.stored:
            server.stop()
            server = start("promlike", folder, flags)
        settle(server)
        bodies = make_bodies(later, connections=1, samples_per_body=2000)[0]
        chosen = [name for name in QUERIES if not options.only or name in options.only.split(",")]
        queries = [chosen[number % len(chosen)] for number in range(options.queries)]
        ok = measure(server, queries, bodies, now, options)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if ok else 1


def measure(server: Server, queries: list[str], bodies: list[bytes], now: int, options: argparse.Namespace) -> bool:
    if server.process is None:
        raise RuntimeError("no server of our own")
    pid = server.process.pid
    watch = Watch(pid=pid, base_bytes=resident(pid))
    sent: list[float] = []
    done = Event()

    def keep_writing() -> None:
        for body in bodies:
            if done.wait(options.pause):
                return
            began = time.perf_counter()
            send(server.url, [body])
            sent.append(time.perf_counter() - began)

    writer = Thread(target=keep_writing)
    before = process_usage(pid).cpu_seconds
    began = time.perf_counter()
    with watch.running():
        writer.start()
        with ThreadPoolExecutor(len(queries)) as threads:
            slow = [number % 10 == 9 for number in range(len(queries))]
            answers = list(threads.map(lambda name, slow: ask(server, name, now, slow, options.hours), queries, slow))
        seconds = time.perf_counter() - began
        done.set()
        writer.join()
    time.sleep(5)
    after = resident(pid)
    mib = 1 << 20
    print(f"{len(queries)} queries in {seconds:.1f} s, {process_usage(pid).cpu_seconds - before:.1f} CPU s")
    print(f"before {watch.base_bytes / mib:.0f} MiB, at most {(watch.peak_bytes - watch.base_bytes) / mib:.0f} MiB more, ", end="")
    print(f"afterwards {(after - watch.base_bytes) / mib:.0f} MiB more; second by second above before (MiB):")
    print(" ".join(f"{(most - watch.base_bytes) / mib:.0f}" for most in watch.profile))
    times = np.array(sent or [0.0]) * 1000
    print(f"{len(sent)} bodies of 2000 samples written meanwhile, p50 {np.median(times):.0f} ms, slowest {times.max():.0f} ms")
    for name in dict.fromkeys(queries):
        found = [asked for asked in answers if asked.name == name]
        statuses = " ".join(f"{count}x {status}" for status, count in sorted(Counter(asked.status for asked in found).items()))
        size = max(asked.size for asked in found)
        print(f"  {name:20} {statuses:20} {size / 1e6:7.1f} MB, {max(asked.seconds for asked in found):5.1f} s")
    for error in sorted({f"{asked.status} {asked.error}" for asked in answers if asked.error}):
        print(f"  {error[:200]}")
    alive = server.process.poll() is None
    return alive and bool(sent) and all(asked.status in (200, 422, 503) for asked in answers)


def ask(server: Server, name: str, now: int, slow: bool, hours: float) -> Asked:
    """Ask one query and read its answer to the end; a slow client begins late and takes its time."""
    text, step = QUERIES[name]
    if step:
        path = "query_range?" + urlencode({"query": text, "start": now - int(hours * 3600), "end": now, "step": step, "nocache": 1})
    else:
        path = "query?" + urlencode({"query": text, "time": now})
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=300)
    began = time.perf_counter()
    try:
        connection.request("GET", "/api/v1/" + path)
        answer = connection.getresponse()
        if slow:
            time.sleep(2)
        size, head = 0, b""
        while part := answer.read(1 << 20):
            size += len(part)
            head = head or part
            if slow:
                time.sleep(0.05)
        error = "" if answer.status == 200 else json.loads(head).get("error", "")
        return Asked(name=name, status=answer.status, size=size, seconds=time.perf_counter() - began, error=error)
    except (OSError, http.client.HTTPException) as problem:
        return Asked(name=name, status=0, size=0, seconds=time.perf_counter() - began, error=repr(problem))
    finally:
        connection.close()


def split(fleet: Fleet, steps: int) -> tuple[Fleet, Fleet]:
    """The first steps of a fleet, and the others."""
    past = Fleet(labels=fleet.labels, values=fleet.values[:, :steps], phase_ms=fleet.phase_ms, start_ms=fleet.start_ms)
    later_ms = fleet.start_ms + steps * STEP_SECONDS * 1000
    return past, Fleet(labels=fleet.labels, values=fleet.values[:, steps:], phase_ms=fleet.phase_ms, start_ms=later_ms)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.budget", description=__doc__)
    parser.add_argument("--memory", default="1GB", help="what all queries together may hold")
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=1440, help="of each series, 15 s apart")
    parser.add_argument("--hours", type=float, default=6.0, help="how far back range queries go")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--only", default="", help="names of queries, separated by commas")
    parser.add_argument("--stored", action="store_true")
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between two bodies")
    parser.add_argument("--flag", action="append", default=[], help="another flag for the server")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
