"""`python -m bench`: make the load, send it to one server after the other, ask all of them in turn, print the tables."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.answers import ask_in_turn
from bench.bodies import make_bodies
from bench.fleet import Fleet, make_fleet
from bench.ingest import ingest
from bench.queries import QUERIES
from bench.report import Measured, ingest_table, query_table
from bench.servers import NAMES, Server, installed, start

BUSY_LOAD = 1.2
"""A load average that making the bodies, one busy thread, does not explain."""


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    results: list[Measured] = []
    with ExitStack() as cleanup:
        servers = _given(options)
        if not options.queries_only:
            fleet = make_fleet(series=options.series, steps=options.samples, end_ms=int(time.time() * 1000))
            bodies = make_bodies(fleet, connections=options.connections, samples_per_body=options.samples_per_body)
            size = sum(len(body) for shard in bodies for body in shard)
            _say(f"{fleet.samples / 1e6:.2f} M samples in {sum(map(len, bodies))} bodies, {size >> 20} MiB")
            if os.getloadavg()[0] > BUSY_LOAD:
                _say(f"this machine is busy with something else (load {os.getloadavg()[0]:.1f}): the figures will be worse than it can do")
            servers = servers or _started(options, cleanup)
            options.end = fleet.end_ms
            results = [_load(server, fleet, bodies) for server in servers]
        else:
            results = [Measured(name=server.name) for server in servers]
        _say(f"asking {len(QUERIES)} queries; the data ends at {options.end} ms")
        for query in QUERIES:
            answers = ask_in_turn(servers, query, end_ms=options.end, repetitions=options.repetitions)
            for measured, answer in zip(results, answers, strict=True):
                measured.answers[query.name] = answer
        for server, measured in zip(servers, results, strict=True):
            measured.ended = server.usage()
            server.stop()
            measured.disk_bytes_stopped = server.disk_bytes()
    _print(results)
    return 0


def _started(options: argparse.Namespace, cleanup: ExitStack) -> list[Server]:
    """Start what was asked for and is installed, all at once; `cleanup` stops them and removes their folders."""
    servers: list[Server] = []
    for name in options.servers:
        if not installed(name):
            _say(f"{name} is not installed: left out")
            continue
        folder = Path(tempfile.mkdtemp(prefix=f"bench-{name}-", dir=options.folder))
        if options.keep:
            _say(f"{name}: data and log are kept in {folder}")
        else:
            cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        server = start(name, folder)
        cleanup.callback(server.stop)
        servers.append(server)
    return servers


def _load(server: Server, fleet: Fleet, bodies: list[list[bytes]]) -> Measured:
    """Send the load to one server while the others rest."""
    _say(f"{server.name} at {server.url}: sending")
    measured = Measured(name=server.name, ready_seconds=server.ready_seconds)
    measured.ingest = ingest(server, bodies, fleet.samples)
    measured.loaded = server.usage()
    measured.disk_bytes = server.disk_bytes()
    _say(f"{server.name}: {measured.ingest.samples_per_second / 1e6:.2f} M samples/s")
    return measured


def _print(results: list[Measured]) -> None:
    if not results:
        return
    reference = next((result for result in results if result.name == "prometheus"), None)
    if any(result.ingest for result in results):
        print(ingest_table(results), end="\n\n")
    print(query_table(results, reference))


def _given(options: argparse.Namespace) -> list[Server]:
    pairs = [text.partition("=")[::2] if "://" not in text.partition("=")[0] else (text, text) for text in options.url]
    return [Server(name=name, url=url.rstrip("/")) for name, url in pairs]


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=1440, help="samples of each series, 15 s apart, the last one now")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--samples-per-body", type=int, default=2000, help="what a Prometheus sends at once")
    parser.add_argument("--repetitions", type=int, default=7, help="of each query; the median counts")
    parser.add_argument("--servers", type=lambda text: text.split(","), default=list(NAMES), help="which to start, by commas")
    parser.add_argument("--url", action="append", default=[], metavar="NAME=URL", help="measure a running server instead; may be repeated")
    parser.add_argument("--queries-only", action="store_true", help="with --url: the data is there already")
    parser.add_argument("--end", type=int, help="with --queries-only: where the data ends, in ms")
    parser.add_argument("--folder", type=Path, help="where data folders are made (default: the temporary folder)")
    parser.add_argument("--keep", action="store_true", help="leave data and logs of started servers")
    options = parser.parse_args(arguments)
    for name in options.servers:
        if name not in NAMES:
            parser.error(f"unknown server {name!r}, known: {', '.join(NAMES)}")
    if options.queries_only and not (options.url and options.end):
        parser.error("--queries-only needs --url for servers that hold the data, and --end as the earlier run said it")
    return options


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
