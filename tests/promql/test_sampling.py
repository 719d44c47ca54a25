"""Samples that steps look at, and those they are the first to read, counted by hand."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from promlike.model.blocks import STALE_NAN, StepGrid
from promlike.model.labels import labels
from promlike.promql.engine import Engine
from promlike.promql.options import EngineOptions
from tests.promql.memory import MemorySource

SECOND_MS = 1000


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with ThreadPoolExecutor(2) as pool:
        engine = Engine(EngineOptions(), pool)
        yield engine
        engine.close()


def source() -> MemorySource:
    """`m` has a sample every 10 s from 0 to 100 s, `slow` one at 0 s and one at 60 s, `ended` ends at 30 s."""
    filled = MemorySource()
    filled.add(labels({"__name__": "m"}), [(at * SECOND_MS, at) for at in range(0, 101, 10)])
    filled.add(labels({"__name__": "slow"}), [(0, 1.0), (60 * SECOND_MS, 2.0)])
    filled.add(labels({"__name__": "ended"}), [(0, 1.0), (10 * SECOND_MS, 2.0), (30 * SECOND_MS, STALE_NAN)])
    return filled


TABLE = [
    # Query, and a pair for each step at 20, 40, 60 and 80 s: samples looked at, and samples read.
    ("m", [(1, 1)] * 4),
    ("slow", [(1, 1), (1, 0), (1, 1), (1, 0)]),
    ("ended", [(1, 1), (0, 0), (0, 0), (0, 0)]),
    ("m @ 50", [(1, 1), (1, 0), (1, 0), (1, 0)]),
    ("m offset 20s", [(1, 1)] * 4),
    ("rate(m[30s])", [(3, 3), (3, 2), (3, 2), (3, 2)]),
    ("rate(m[10s])", [(1, 1)] * 4),
    ("rate(m[1m])", [(3, 3), (5, 2), (6, 2), (6, 2)]),
    ("rate(m[30s] @ 60)", [(3, 3), (3, 0), (3, 0), (3, 0)]),
    ("count_over_time(ended[1m])", [(2, 2), (2, 0), (1, 0), (0, 0)]),
    ("m + m", [(2, 2)] * 4),
    ("max_over_time(m[20s:10s])", [(2, 2)] * 4),
    ("max_over_time(m[40s:10s])", [(3, 3), (4, 2), (4, 2), (4, 2)]),
    ("max_over_time(slow[40s:10s])", [(3, 1), (4, 0), (4, 1), (4, 0)]),
    ("max_over_time(m[40s:10s] @ 80)", [(4, 4), (4, 0), (4, 0), (4, 0)]),
    ("max_over_time(rate(m[30s])[20s:10s])", [(5, 3), (6, 2), (6, 2), (6, 2)]),
    ("1", [(0, 0)] * 4),
]


@pytest.mark.parametrize(("query", "steps"), TABLE, ids=[row[0] for row in TABLE])
async def test_samples_by_step(engine: Engine, query: str, steps: list[tuple[int, int]]) -> None:
    grid = StepGrid(start_ms=20 * SECOND_MS, step_ms=20 * SECOND_MS, count=4)
    stats = (await engine.range(source(), query, grid, with_stats=True)).stats
    assert list(zip(stats.samples_per_step, stats.read_per_step, strict=True)) == steps
    assert (stats.total_samples, stats.samples_read) == (sum(stats.samples_per_step), sum(stats.read_per_step))


async def test_without_statistics_read_is_what_was_loaded(engine: Engine) -> None:
    stats = (await engine.instant(source(), "rate(m[30s])", 40 * SECOND_MS)).stats
    assert (stats.samples_read, stats.read_per_step) == (3, ())
