"""`python -m bench.refresh`: a panel over six hours that is refreshed every 15 seconds, with the result cache and without.

A server of our own gets 10,000 series of six hours that end now. Then every 15 seconds each series gets a sample and the panel asks again,
its range moved on: once as a dashboard does, once with `nocache=1`. Both answers must be the same bytes; what is printed is the median time
of each way and their ratio. With `--redis`, the server shares its answers through a Redis of our own, is stopped and started again, and the
first answer after that is measured, too.
"""

import argparse
import http.client
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median
from urllib.parse import urlencode, urlsplit

import numpy as np

from bench.bodies import make_bodies
from bench.fleet import STEP_SECONDS, Fleet, Labels
from bench.ingest import ingest
from bench.servers import Server, free_port, start

QUERY = "sum by (job) (rate(http_requests_total[5m]))"


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    steps = int(options.hours * 3600) // STEP_SECONDS
    fleet = counters(options.series, steps + options.refreshes)
    bodies = make_bodies(fleet, connections=1, samples_per_body=options.series)[0]
    folder = Path(tempfile.mkdtemp(prefix="bench-refresh-"))
    redis, flags = start_redis() if options.redis else (None, [])
    server = start("promlike", folder, flags)
    try:
        ingest(server, [bodies[:steps]], options.series * steps)
        ask(server, options.query, options.hours, nocache="0")
        times = [refresh(server, body, options.query, options.hours) for body in bodies[steps:]]
        if redis is not None:
            server.stop()
            server = start("promlike", folder, flags)
            print_restart(server, options.query, options.hours)
    finally:
        server.stop()
        if redis is not None:
            redis.terminate()
            redis.wait()
        shutil.rmtree(folder, ignore_errors=True)
    cached, plain = (median(column) for column in zip(*times, strict=True))
    print(f"{options.query} over {options.hours:g} h of {options.series} series, {len(times)} refreshes")
    print(f"cached {cached * 1000:.1f} ms, without the cache {plain * 1000:.1f} ms: {plain / cached:.1f} times as fast")
    return 0


def start_redis() -> tuple["subprocess.Popen[bytes]", list[str]]:
    """A Redis that keeps nothing on disk, and the flags of a server that uses it and flushes between two refreshes."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return process, [f"--cache.redis-url=redis://127.0.0.1:{port}/0", "--storage.flush-interval=10s"]


def print_restart(server: Server, query: str, hours: float) -> None:
    """The first answer of a server that was started again, the second, and one without the cache. Raise RuntimeError when they differ."""
    first, first_seconds = ask(server, query, hours, nocache="0")
    second, second_seconds = ask(server, query, hours, nocache="0")
    plain, plain_seconds = ask(server, query, hours, nocache="1")
    if not first == second == plain:
        raise RuntimeError(f"the answers differ: {first[:200]!r}, {second[:200]!r} and {plain[:200]!r}")
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    (shared,) = (line.split()[1] for line in lines if line.startswith("promlike_result_cache_shared_hit_steps_total "))
    print(f"started again: first answer {first_seconds * 1000:.1f} ms, {float(shared):.0f} steps of it from Redis, then ", end="")
    print(f"{second_seconds * 1000:.1f} ms; without the cache {plain_seconds * 1000:.1f} ms")


def counters(series: int, steps: int) -> Fleet:
    """Counters of requests that end, but for the refreshes to come, about now."""
    rng = np.random.default_rng(1)
    end_ms = (int(time.time()) // STEP_SECONDS + 8) * STEP_SECONDS * 1000
    labels: list[Labels] = [
        (
            ("__name__", "http_requests_total"),
            ("cluster", f"eu-west-{number % 3 + 1}"),
            ("instance", f"10.20.{number // 250}.{number % 250}:9100"),
            ("job", ("api", "web", "worker", "batch")[number % 4]),
            ("namespace", ("production", "staging")[number % 2]),
            ("pod", f"pod-7c9f6d5b8-{number:05d}"),
            ("status", ("200", "404", "500")[number % 3]),
        )
        for number in range(series)
    ]
    values = np.cumsum(rng.integers(0, 50, (series, steps)), axis=1).astype(np.float64)
    return Fleet(labels=labels, values=values, phase_ms=rng.integers(1, 14_000, series), start_ms=end_ms - steps * STEP_SECONDS * 1000)


def refresh(server: Server, body: bytes, query: str, hours: float) -> tuple[float, float]:
    """Wait for the next 15 seconds, send a sample of every series, ask; seconds of both ways. Raise RuntimeError when they differ."""
    time.sleep(STEP_SECONDS - time.time() % STEP_SECONDS)
    ingest(server, [[body]], 1)
    cached, seconds = ask(server, query, hours, nocache="0")
    plain, plain_seconds = ask(server, query, hours, nocache="1")
    if cached != plain:
        raise RuntimeError(f"the answers differ: {cached[:200]!r} and {plain[:200]!r}")
    return seconds, plain_seconds


def ask(server: Server, query: str, hours: float, *, nocache: str) -> tuple[bytes, float]:
    """The panel's answer, up to the last whole step, and the seconds it took."""
    end = int(time.time()) // STEP_SECONDS * STEP_SECONDS
    asked = {"query": query, "start": end - int(hours * 3600), "end": end, "step": STEP_SECONDS, "nocache": nocache}
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=180)
    try:
        began = time.perf_counter()
        connection.request("GET", "/api/v1/query_range?" + urlencode(asked))
        answer = connection.getresponse()
        body = answer.read()
        seconds = time.perf_counter() - began
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"the query failed: {body[:300]!r}")
    return body, seconds


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.refresh", description=__doc__)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--hours", type=float, default=6.0)
    parser.add_argument("--refreshes", type=int, default=5, help="how many to measure, 15 s apart")
    parser.add_argument("--query", default=QUERY)
    parser.add_argument("--redis", action="store_true", help="share answers through Redis, and measure a server that starts again")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
