"""Values stand as decimal fractions where these give them back bit by bit, and nobody who reads sees a difference."""

import math
from itertools import pairwise
from pathlib import Path
from typing import cast

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promlike.model.blocks import STALE_NAN, Float64
from promlike.storage.timescale.migrations import MIGRATIONS, migrate
from promlike.storage.timescale.store import TimescaleStore
from promlike.storage.timescale.values import find_decimals, value_of
from tests.storage.conftest import new_database
from tests.storage.store_suite import START_MS, batch, read, records

HOUR_MS = 3_600_000
RUNS = {
    "whole": [1.0, 2.0, 1e8, 0.0, -7.0],
    "hundredths": [0.25, 13.07, 101.1, 1e6 + 0.01, -3.0],
    "nanoseconds": [1.000000001, 1.5, 0.3],
    "markers": [1.5, STALE_NAN, 2.5, math.inf, -math.inf, -0.0, 3.5],
    "noise": [1 / 3, 2 / 3, 0.1],
    "huge": [1e300, 1.0, 2.0**60],
    "tiny": [5e-324, 1.0],
    "many digits": [0.1 + 0.2, 1.0],
    "too wide": [2.0**53, 0.5],
}
STAYING = {"noise", "huge", "tiny", "many digits", "too wide"}


def split(*runs: list[float]) -> tuple[list[list[int]], list[list[float]]]:
    offsets = np.append(0, np.cumsum([len(run) for run in runs]))
    scaled, divisors = find_decimals(np.concatenate([np.array(run, np.float64) for run in runs]), offsets)
    pairs = list(pairwise(offsets))
    return [scaled[a:b].tolist() for a, b in pairs], [divisors[a:b].tolist() for a, b in pairs]


def bits(values: list[float] | Float64) -> list[int]:
    return cast(list[int], np.asarray(values, np.float64).view(np.int64).tolist())


def test_a_run_gets_the_digits_of_the_value_that_has_most() -> None:
    scaled, divisors = split([1.0, 2.5, 3.0], [], [7.0, -8.0], [0.001])
    assert (scaled, divisors) == ([[10, 25, 30], [], [7, -8], [1]], [[10.0] * 3, [], [1.0] * 2, [1000.0]])


@pytest.mark.parametrize("name", RUNS)
def test_what_fits_in_no_fraction_stays_as_it_is(name: str) -> None:
    (scaled,), (divisors,) = split(RUNS[name])
    alone = {index for index, value in enumerate(RUNS[name]) if not math.isfinite(value) or (value == 0 and math.copysign(1, value) < 0)}
    stays = set(range(len(divisors))) if name in STAYING else alone
    assert {index for index, divisor in enumerate(divisors) if divisor == 0} == stays
    kept = [index for index in range(len(divisors)) if index not in stays]
    assert bits([scaled[index] / divisors[index] for index in kept]) == bits([RUNS[name][index] for index in kept])


def test_wild_numbers_stay_because_xor_is_shorter() -> None:
    rng = np.random.default_rng(1)
    wild = rng.integers(0, 2**52, 100).astype(float).tolist()
    steady = (2.0**52 + np.arange(100.0) * 2**20).tolist()
    _, divisors = split(wild, steady, [float(k % 2) * 2.0**40 if k > 90 else 1.0 for k in range(100)])
    assert [set(run) for run in divisors] == [{0.0}, {1.0}, {1.0}]


@given(
    st.lists(
        st.lists(
            st.floats(width=64)
            | st.integers(-(2**60), 2**60).map(float)
            | st.tuples(st.integers(-(10**15), 10**15), st.integers(0, 12)).map(lambda pair: pair[0] / 10 ** pair[1])
        ),
        max_size=5,
    )
)
def test_whatever_is_a_fraction_gives_its_value_back_bit_by_bit(runs: list[list[float]]) -> None:
    for run, scaled, divisors in zip(runs, *split(*runs, []), strict=False):
        for value, number, divisor in zip(run, scaled, divisors, strict=True):
            assert divisor == 0 or bits([number / divisor]) == bits([value])


@pytest.mark.parametrize("server", ["timescale_server", "plain_server"])
async def test_values_come_back_from_the_database_bit_by_bit(request: pytest.FixtureRequest, server: str, tmp_path: Path) -> None:
    url = await new_database(request.getfixturevalue(server))
    store = TimescaleStore(url, folder=tmp_path)
    await store.open()
    samples = {ref: [(START_MS + k, value) for k, value in enumerate(run)] for ref, run in enumerate(RUNS.values())}
    late = {ref: [(START_MS - HOUR_MS + k, value) for k, value in enumerate(run)] for ref, run in enumerate(RUNS.values())}
    await store.write(batch(samples, late=late, series=records(*RUNS)))
    await store.maintain()
    for ref in samples:
        block = await store.read(np.array([ref], np.int32), 0, 2**52)
        assert bits(block.values) == bits([value for _, value in late[ref] + samples[ref]])
    connection = await asyncpg.connect(url)
    named = "SELECT DISTINCT labels->>'instance' AS name FROM promlike.samples JOIN promlike.series ON id = series_id"
    whole = {row["name"] for row in await connection.fetch(f"{named} WHERE value NOTNULL")}
    scaled = {row["name"] for row in await connection.fetch(f"{named} WHERE scaled NOTNULL")}
    seen = await connection.fetch("SELECT value FROM promlike.labelled_samples WHERE labels->>'instance' = 'markers' ORDER BY time")
    await connection.close()
    await store.close()
    decimals = server == "timescale_server"
    assert whole == (STAYING | {"markers"} if decimals else set(RUNS))
    assert scaled == (set(RUNS) - STAYING if decimals else set())
    assert bits([row["value"] for row in seen]) == 2 * bits([value for value in RUNS["markers"] if not math.isnan(value)])


async def test_late_samples_replace_what_stood_there_otherwise(database: str, tmp_path: Path) -> None:
    store = TimescaleStore(database, folder=tmp_path)
    await store.open()
    await store.write(batch({0: [(START_MS, 1.5), (START_MS + 1, 1 / 3)], 1: [(START_MS, 2.0)]}, series=records("a", "b")))
    await store.write(batch(late={0: [(START_MS, 1 / 3), (START_MS + 1, 1 / 7)], 1: [(START_MS, 2.5)]}, position=(1, 16)))
    await store.write(batch(late={0: [(START_MS, 7.0)], 1: [(START_MS, 3.25)]}, position=(1, 24)))
    assert await read(store, [0, 1]) == [[(START_MS, 7.0), (START_MS + 1, 1 / 7)], [(START_MS, 3.25)]]
    await store.close()


@pytest.mark.parametrize("server", ["timescale_server", "plain_server"])
async def test_samples_from_before_are_read_beside_new_ones(request: pytest.FixtureRequest, server: str, tmp_path: Path) -> None:
    """Compressed chunks included, into which new samples of the same day go."""
    url = await new_database(request.getfixturevalue(server))
    connection = await asyncpg.connect(url, server_settings={"search_path": "promlike, public"})
    timescale = await migrate(connection, "promlike", MIGRATIONS[:11])
    await connection.execute("""INSERT INTO series (id, metric, labels) VALUES (0, 'up', '{"__name__": "up", "instance": "a"}')""")
    if not timescale:
        await connection.execute("CREATE TABLE one_day PARTITION OF samples FOR VALUES FROM ('2001-01-01Z') TO ('2001-01-02Z')")
    await connection.execute("INSERT INTO samples VALUES ('2001-01-01T00:00Z', 0, 1.5), ('2001-01-01T00:01Z', 0, 0.1)")
    await connection.execute("INSERT INTO samples SELECT '2001-01-01T00:02Z', 0, 'NaN'")
    if timescale:
        await connection.execute("SELECT compress_chunk(chunk) FROM show_chunks('samples') AS chunk")
    await connection.close()
    store = TimescaleStore(url, folder=tmp_path)
    await store.open()
    store.adopt(np.arange(1), np.arange(1, dtype=np.int32))
    old_ms = 978_307_200_000
    if timescale:
        await store.write(batch(late={0: [(old_ms + 60_000, 0.25), (old_ms + 1, 3.0)]}))
        await store.maintain()
    found = [(ts - old_ms, repr(value)) for ts, value in (await read(store, [0]))[0]]
    new = [(0, "1.5"), (1, "3.0"), (60_000, "0.25"), (120_000, "nan")]
    assert found == (new if timescale else [(0, "1.5"), (60_000, "0.1"), (120_000, "nan")])
    connection = await asyncpg.connect(url)
    seen = await connection.fetch("SELECT value FROM promlike.labelled_samples ORDER BY time")
    assert [repr(row["value"]) for row in seen] == [value for _, value in found]
    total = await connection.fetchval(f"SELECT sum({value_of()}) FROM promlike.samples WHERE ts < '2001-01-01T00:02Z'")
    assert total == sum(float(value) for ts, value in found if ts < 120_000)
    await connection.close()
    await store.close()
