"""What a trace says of a selection is what was there to be read: series, samples in memory and in the store, rows of rollups."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from promlike.model.blocks import STALE_NAN, StepGrid
from promlike.model.trace import Trace
from promlike.promql.engine import Engine
from promlike.promql.options import EngineOptions
from promlike.storage import querier
from promlike.storage.options import HOUR_MS
from promlike.storage.store import Store
from tests.storage.conftest import NOW_MS, Bench, Benches
from tests.storage.test_tiers import MINUTE_MS, NOW, random_samples, rolled_up_bench, stored_rows
from tests.traces import Tree, messages, number

MakeStore = Callable[[Path], Store]
GRID = StepGrid(start_ms=NOW - 8 * HOUR_MS, step_ms=HOUR_MS, count=9)
QUERY = "sum(count_over_time(up[1h]))"
IN_MEMORY = '{__name__="up"}'


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with ThreadPoolExecutor(2) as pool:
        engine = Engine(EngineOptions(), pool)
        yield engine
        engine.close()


async def traced(engine: Engine, bench: Bench, query: str, grid: StepGrid = GRID, resolution_ms: int | None = None) -> Tree:
    """The trace of a query, whose answer is the one without."""
    trace = Trace("query")
    result = await engine.range(bench.storage, query, grid, resolution_ms=resolution_ms, trace=trace)
    plain = await engine.range(bench.storage, query, grid, resolution_ms=resolution_ms)
    assert result.infos == plain.infos
    assert result.stats.total_samples == plain.stats.total_samples
    return trace.tree()


async def test_samples_in_memory_and_in_the_store_are_told_apart(benches: Benches, any_store: MakeStore, engine: Engine) -> None:
    every_minute = [(NOW - at * MINUTE_MS, STALE_NAN if at % 100 == 50 else float(at)) for at in range(700)]
    bench = await rolled_up_bench(benches, {"a": every_minute, "b": every_minute}, make=any_store)
    tree = await traced(engine, bench, QUERY, resolution_ms=0)
    assert number(tree, IN_MEMORY, "series") == 2
    in_memory, in_store = number(tree, IN_MEMORY, "samples in memory"), number(tree, "read the store", "samples")
    assert min(in_memory, in_store) > 100
    assert in_memory + in_store == 2 * 9 * 60
    assert number(tree, "up[1h]", "samples") == 2 * (9 * 60 - 5)
    assert number(tree, "count_over_time(up[1h])", "values") == 2 * GRID.count
    assert number(tree, QUERY, "values") == GRID.count
    assert not messages(tree, "read the 1h rollup")


async def test_rows_of_a_rollup_are_told(benches: Benches, any_store: MakeStore, engine: Engine) -> None:
    samples = random_samples(2)
    bench = await rolled_up_bench(benches, samples, make=any_store)
    ends = [await stored_rows(bench, name, HOUR_MS) for name in samples]
    rows = sum(int((GRID.start_ms <= block.rows.ends_ms).sum()) for block in ends)
    tree = await traced(engine, bench, QUERY, resolution_ms=HOUR_MS)
    assert "rollup=1h" in messages(tree, IN_MEMORY)[0]
    assert number(tree, "read the 1h rollup", "rows") == number(tree, "up[1h]", "rows") == rows > 0
    assert number(tree, "roll up newer samples", "samples") == 0
    assert not messages(tree, "read the store: samples")
    await bench.append([("a", NOW + 60_000, 1.0), ("a", NOW + 120_000, 2.0)])
    newest = sum(NOW - HOUR_MS < ts <= NOW for ts, _ in samples["a"])  # its last flushed hour is not over for who has not flushed
    later = StepGrid(start_ms=GRID.start_ms, step_ms=HOUR_MS, count=10)
    tree = await traced(engine, bench, QUERY, later, resolution_ms=HOUR_MS)
    assert number(tree, "roll up newer samples", "samples") == newest + 2
    assert number(tree, "roll up newer samples", "rows") == 2
    assert number(tree, "read the 1h rollup", "rows") == rows + 1


async def test_small_selections_are_read_on_the_spot_and_large_ones_when_they_are_needed(
    benches: Benches, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await benches()
    await bench.append([(name, NOW_MS - at * 1000, 1.0) for name in ("a", "b") for at in range(50)])
    grid = StepGrid(start_ms=NOW_MS - 10_000, step_ms=1000, count=11)
    tree = await traced(engine, bench, "count_over_time(up[1m])", grid)
    assert number(tree, IN_MEMORY, "samples in memory") == 100
    assert messages(tree, "on the spot")
    assert messages(tree, "wait for a turn among light queries")
    monkeypatch.setattr(querier, "DIRECT_SAMPLES", 10)
    monkeypatch.setattr(querier, "DEFERRED_SAMPLES", 10)
    tree = await traced(engine, bench, "count_over_time(up[1m])", grid)
    assert number(tree, IN_MEMORY, "samples in memory") == 100
    assert "read when they are needed" in messages(tree, IN_MEMORY)[0]
    assert not messages(tree, "on the spot")
    assert messages(tree, "wait for a turn among heavy queries")


async def test_what_is_evaluated_once_is_told(benches: Benches, engine: Engine) -> None:
    bench = await benches()
    await bench.append([("a", NOW_MS - 1000, 1.0)])
    grid = StepGrid(start_ms=NOW_MS, step_ms=1000, count=3)
    tree = await traced(engine, bench, "sum(up) + sum(up) + count(up @ 1700000000)", grid)
    assert [": as evaluated before" in message for message in messages(tree, "sum(up):")] == [False, True]
    assert messages(tree, "count(up @ 1700000000)") == [
        "count(up @ 1700000000): the same at all 3 steps, series=1, steps=3, values=3",
        "count(up @ 1700000000): series=1, steps=1, values=1",
    ]
