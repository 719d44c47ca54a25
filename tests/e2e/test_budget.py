"""Many heavy queries at once: each is answered or refused, the process takes about what its budget says, and samples still come in."""

import http.client
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

from bench.bodies import make_bodies
from bench.budget import split
from bench.fleet import STEP_SECONDS, make_fleet
from tests.servers import REMOTE_WRITE, Server, promlike

MIB = 1 << 20
BUDGET = 64 * MIB
MOST_MORE = BUDGET * 3 // 2
"""Half of it for what is no query's: ingestion, code that runs for the first time, what the C library keeps of freed memory."""
QUERIES = (
    'last_over_time({__name__=~".+"}[5m])',
    'sort_desc({__name__=~".+"} > -1)',
    'last_over_time(last_over_time({__name__=~".+"}[5m])[10m:1m])',
    'topk(1900, {__name__=~".+"})',
    'label_replace({__name__=~".+"}, "copy", "$1", "instance", "(.+)")',
)
SERIES, STEPS, MORE_STEPS = 2000, 360, 60


def memory(server: Server, field: str) -> int:
    """A field of the process's status, in bytes."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024


def ask(server: Server, query: str, end: int) -> tuple[int, int]:
    """Status and size of the answer; the client takes its time before it reads."""
    asked = urlencode({"query": query, "start": end - 5400, "end": end, "step": 45, "nocache": 1})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    try:
        connection.request("GET", f"/api/v1/query_range?{asked}")
        answer = connection.getresponse()
        time.sleep(1.0)
        return answer.status, len(answer.read())
    finally:
        connection.close()


def send(server: Server, bodies: Sequence[bytes]) -> list[int]:
    return [server.request("POST", "/api/v1/write", body, REMOTE_WRITE).status for body in bodies]


def test_heavy_queries_at_once_stay_within_their_budget_while_samples_come_in(tmp_path: Path) -> None:
    fleet = make_fleet(series=SERIES, steps=STEPS + MORE_STEPS, end_ms=int(time.time() * 1000))
    before, later = split(fleet, STEPS)
    end = fleet.end_ms // 1000 - MORE_STEPS * STEP_SECONDS
    with promlike(tmp_path, f"--query.max-total-memory={BUDGET // MIB}MB", "--query.max-memory=48MB", "--query.cache-size=0B") as server:
        assert set(send(server, make_bodies(before, connections=1, samples_per_body=SERIES)[0])) == {204}
        for query in QUERIES:
            ask(server, query, end)
        Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # the peak begins anew
        idle = memory(server, "VmRSS")
        with ThreadPoolExecutor(31) as threads:
            sending = threads.submit(send, server, make_bodies(later, connections=1, samples_per_body=SERIES)[0])
            asking = [threads.submit(ask, server, QUERIES[number % len(QUERIES)], end) for number in range(30)]
            answers = [asked.result() for asked in asking]
            assert set(sending.result()) == {204}
        grown = memory(server, "VmHWM") - idle
        assert {status for status, _ in answers} <= {200, 422, 503}
        assert sum(size for _, size in answers) > BUDGET, "the queries were too light"
        assert grown < MOST_MORE, f"{grown / MIB:.0f} MiB more than the {idle / MIB:.0f} before"
        assert server.data("query", query="count(up)", time=str(end))["result"]
        assert server.stop() == 0
