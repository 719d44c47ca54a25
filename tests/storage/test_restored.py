"""A start on a store that is older, or another one, than the log belongs to: it goes on where that is right, and is refused where not."""

import os
import re
import shutil
from pathlib import Path

import duckdb
import pytest

from promlike.errors import StorageError
from promlike.storage.duckdb.store import DuckDBStore
from promlike.storage.store import WalPosition
from promlike.storage.timescale.store import TimescaleStore
from promlike.storage.wal import WalWriter
from promlike.storage.wal_records import SEGMENT_MAGIC
from promlike.storage.wal_replay import gap_behind, segment_path, segments_of
from tests.storage.conftest import NOW_MS, Bench, Benches, answer, new_storage
from tests.storage.test_reclaim import Making
from tests.storage.test_wal import record

FITS_NOT = "log and store do not fit together"


def store_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("promlike.duckdb*"))


def backup(bench: Bench) -> Path:
    copy = bench.folder.with_name(f"{bench.folder.name}-backup{len(list(bench.folder.parent.iterdir()))}")
    copy.mkdir()
    for path in store_files(bench.folder):
        shutil.copy(path, copy)
    return copy


def restored(bench: Bench, copy: Path | None) -> Path:
    """The data folder as a crash would leave it now, with another state of its store, or none."""
    folder = shutil.copytree(bench.folder, bench.folder.with_name(f"restored{len(list(bench.folder.parent.iterdir()))}"))
    for path in store_files(folder):
        path.unlink()
    for path in store_files(copy) if copy else ():
        shutil.copy(path, folder)
    return folder


async def put(bench: Bench, second: int) -> dict[int, float]:
    """Another sample of the series `a`, and its first one of a series of its own."""
    await bench.append([("a", NOW_MS + second * 1000, float(second)), (f"a{second}", NOW_MS, float(second))])
    return {NOW_MS + second * 1000: float(second)}


def wanted(upto: int) -> dict[str, dict[int, float]]:
    return {"a": {NOW_MS + k * 1000: float(k) for k in range(upto)}} | {f"a{k}": {NOW_MS: float(k)} for k in range(upto)}


async def refused(folder: Path, match: str, make: Making = lambda folder: DuckDBStore(folder / "promlike.duckdb")) -> None:
    """A start on this folder raises a StorageError with these words."""
    bench = Bench(folder=folder, clock=[NOW_MS], options={}, wrap=lambda store: store, storage=None, make=make)  # type: ignore[arg-type]  # below
    bench.storage = new_storage(bench)
    with pytest.raises(StorageError, match=match):
        await bench.storage.open(lambda line: None)
    await bench.storage.close()


async def test_the_log_brings_a_restored_store_up_to_date_where_it_has_all_since(benches: Benches) -> None:
    bench = await benches()
    copies: list[Path | None] = [None]
    for second in range(4):
        await put(bench, second)
        await bench.storage.flush()
        copies.append(backup(bench))
    await put(bench, 4)
    for copy in copies:
        again = await benches(folder=restored(bench, copy))
        assert await again.select() == answer(wanted(5))


async def test_a_store_from_before_what_the_log_still_has_is_refused(benches: Benches) -> None:
    bench = await benches(wal_segment_bytes=1)
    await put(bench, 0)
    await bench.storage.flush()
    copy = backup(bench)
    position = await bench.storage._store.load_position()
    assert position is not None
    for second in (1, 2):
        await put(bench, second)
        await bench.storage.flush()
    folder = restored(bench, copy)
    first = segment_path(folder / "wal", segments_of(folder / "wal")[0])
    has = f"everything up to segment {position.segment} offset {position.offset}, but the first segment that goes on from there, {first}"
    await refused(folder, f"{FITS_NOT}: the store has {re.escape(has)}, follows segment 2 .* move the folder")
    shutil.move(folder / "wal", folder / "wal-away")
    again = await benches(folder=folder)
    assert await again.select() == answer(wanted(1))
    await put(again, 5)
    crashed = await benches(folder=shutil.copytree(folder, folder.with_name("crashed")))
    assert await crashed.select() == await again.select()


async def test_a_store_from_before_a_stop_is_refused_although_the_next_segment_is_there(benches: Benches) -> None:
    bench = await benches()
    await put(bench, 0)
    await bench.storage.flush()
    copy = backup(bench)
    await put(bench, 1)
    await bench.reopen()
    assert await (await benches(folder=restored(bench, copy))).select() == answer(wanted(1))  # there is no log that could not fit
    await put(bench, 2)
    assert segments_of(bench.folder / "wal") == [2]
    await refused(restored(bench, copy), FITS_NOT)
    assert await (await benches(folder=restored(bench, backup(bench)))).select() == answer(wanted(3))


async def test_an_empty_store_is_refused_unless_the_log_has_its_beginning(benches: Benches, plain_database: str) -> None:
    bench = await benches(make=lambda folder: TimescaleStore(plain_database, folder=folder))
    await put(bench, 0)
    await bench.storage.flush()
    await put(bench, 1)
    whole = restored(bench, None)
    await bench.reopen()
    await put(bench, 2)
    part = restored(bench, None)

    def another(schema: str) -> Making:
        return lambda folder: TimescaleStore(plain_database, folder=folder, schema=schema)

    assert await (await benches(folder=whole, make=another("whole"))).select() == answer(wanted(2))
    await refused(part, f"{FITS_NOT}: the store has nothing of this log", another("part"))
    for path in (part / "wal").iterdir():
        os.utime(path, (1.0, 1.0))
    expired = await benches(folder=part, make=another("part"), retention_ms=1000)  # as of a daemon that the others have forgotten
    await put(expired, 3)
    killed = await benches(folder=restored(expired, None), make=another("part"), retention_ms=1000)
    for each in (expired, killed):
        assert (await each.storage.label_values("instance", [], start_ms=None, end_ms=None))[0] == ["a", "a3"]


async def test_a_store_whose_series_the_log_contradicts_is_refused(benches: Benches) -> None:
    """So it may be after a restore, where the log is whole: retention forgets series in the store without a word in the log."""
    bench, other = await benches(), await benches()
    await bench.append([("a", NOW_MS, 1.0), ("b", NOW_MS, 1.0)])
    await other.append([("b", NOW_MS, 1.0), ("a", NOW_MS, 1.0)])
    await other.storage.flush()
    copy = backup(other)
    folder = restored(bench, copy)
    with duckdb.connect(folder / "promlike.duckdb") as connection:
        connection.execute("DELETE FROM state WHERE key IN ('wal_segment', 'wal_offset')")
    await refused(folder, r'contradict each other: the ref of .*"a".* is 1, not 0; .* move the folder')


async def test_a_stop_stores_where_the_log_ends_before_it_drops_it(benches: Benches) -> None:
    """Also when nothing came that the store lacks: cut short, the stop would leave a log that does not fit."""
    bench = await benches(wal_segment_bytes=1)
    await put(bench, 0)
    await bench.storage.flush()
    await put(bench, 0)
    again = await benches(folder=shutil.copytree(bench.folder, bench.folder.with_name("killed")), wal_segment_bytes=1)
    end = again.storage._wal.applied
    await again.storage._flusher.flush()
    assert await again.storage._store.load_position() == end


def test_a_log_goes_on_where_the_one_before_ended(tmp_path: Path) -> None:
    writer = WalWriter(tmp_path, 1)
    writer.open(WalPosition(segment=3, offset=77))
    ends = [writer.write(record(text)) for text in "abc"]
    writer.close()
    assert segments_of(tmp_path) == [4, 5, 6]
    for fits in (WalPosition(segment=3, offset=77), *ends, WalPosition(segment=9, offset=1)):
        assert gap_behind(tmp_path, fits) is None
    for other in (None, WalPosition(segment=3, offset=76), WalPosition(segment=3, offset=78), WalPosition(segment=2, offset=77)):
        gap = gap_behind(tmp_path, other)
        assert gap is not None
        assert (gap.path, gap.follows) == (segment_path(tmp_path, 4), WalPosition(segment=3, offset=77))


@pytest.mark.parametrize("size", [0, 3, len(SEGMENT_MAGIC)])
def test_a_segment_that_was_only_begun_is_no_gap(tmp_path: Path, size: int) -> None:
    stored = WalPosition(segment=3, offset=77)
    segment_path(tmp_path, 4).write_bytes(SEGMENT_MAGIC[:size])
    assert gap_behind(tmp_path, stored) is None
    writer = WalWriter(tmp_path, 1)
    writer.open(WalPosition(segment=4, offset=size))
    writer.write(record("a"))
    writer.close()
    assert gap_behind(tmp_path, stored) is None


def test_a_segment_of_an_older_promlike_is_taken_for_what_follows(tmp_path: Path) -> None:
    segment_path(tmp_path, 4).write_bytes(SEGMENT_MAGIC + record("a"))
    assert gap_behind(tmp_path, WalPosition(segment=1, offset=8)) is None
