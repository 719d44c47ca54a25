"""Who caches answers hears of every sample that came after its time."""

from tests.storage.conftest import NOW_MS, Bench, Benches

Told = list[tuple[list[int], int, int]]


def listen(bench: Bench, settled_ms: int) -> Told:
    told: Told = []
    bench.storage.changes.subscribe(lambda refs, start, end: told.append((refs.tolist(), start, end)), settled_ms=settled_ms)
    return told


async def test_samples_of_the_past_are_told_with_their_times(benches: Benches) -> None:
    bench = await benches()
    told, all_told = listen(bench, 60_000), listen(bench, -(10**9))
    await bench.append([("a", NOW_MS, 1.0), ("b", NOW_MS - 59_999, 1.0)])
    assert not told
    await bench.append([("a", NOW_MS, 1.0), ("b", NOW_MS - 60_000, 1.0), ("c", NOW_MS - 90_000, 1.0)])
    assert told == [([bench.ref("b"), bench.ref("c")], NOW_MS - 90_001, NOW_MS - 60_000)]
    assert len(all_told) == 2
    assert bench.storage.changes.generation == 3


async def test_what_is_told_can_be_read_already(benches: Benches) -> None:
    bench = await benches()
    unflushed: list[int] = []
    bench.storage.changes.subscribe(lambda refs, start, end: unflushed.append(bench.storage.gauges.unflushed_samples), settled_ms=0)
    await bench.append([("a", NOW_MS - 5, 1.0)])
    assert unflushed == [1]
