"""`python -m bench.churn [--store URL]`: what series cost that come and go, in bytes of memory.

Waves of series (by default four of 250,000), each series with a few samples, come in by remote write, as the pods of a cluster whose
deployments never rest would send them; the clock is the benchmark's. Each wave is flushed, and leaves the head's cache. After so many waves
as are kept, the oldest is older than the retention and goes. After each wave it prints what the process holds, the structures that keep
something of every series, and how long the event loop was held up at most.

The store is a DuckDB file in a temporary folder unless `--store` names a PostgreSQL database, whose schema `promlike_bench` is dropped
before and afterwards.
"""

import argparse
import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import cramjam
import numpy as np

from bench.long_range import drop, make_store
from promlike.kernel import compile_kernels
from promlike.remote_write.receiver import RemoteWriteReceiver
from promlike.storage.memory import release_freed, resident_bytes, share_heaps
from promlike.storage.options import HOUR_MS
from promlike.storage.storage import Storage, StorageOptions

BODY_SERIES = 2000
SAMPLES = 4
STEP_MS = 15_000
SERIES_PER_POD = 100


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    compile_kernels()
    share_heaps()
    with tempfile.TemporaryDirectory(prefix="bench-churn-") as folder:
        asyncio.run(run(options, Path(folder)))
    return 0


async def run(options: argparse.Namespace, folder: Path) -> None:
    await drop(options.store)
    clock = [(int(time.time() * 1000) // HOUR_MS - options.waves) * HOUR_MS]
    kept = StorageOptions(
        data_dir=folder,
        retention_ms=options.kept * HOUR_MS - HOUR_MS // 2,
        tier_retention_ms=dict.fromkeys((300_000, HOUR_MS), options.kept * HOUR_MS - HOUR_MS // 2),
        head_cache_bytes=1 << 20,
        head_window_ms=HOUR_MS // 4,
    )
    storage = Storage(kept, make_store(options.store, folder), now_ms=lambda: clock[0])
    await storage.open(lambda line: None)
    receiver = RemoteWriteReceiver(storage)
    lags: list[float] = []
    watching = asyncio.create_task(watch(lags))
    before = first = resident()
    for wave in range(options.waves):
        started, cpu = time.monotonic(), time.process_time()
        for body in bodies(options, wave, clock[0]):
            outcome = await receiver.write(body)
            if outcome.text:
                raise RuntimeError(outcome.text)
        written = time.monotonic() - started, time.process_time() - cpu
        await storage.flush()
        clock[0] += HOUR_MS
        lags.clear()
        await look_after(storage, receiver)
        after = resident()
        print(f"wave {wave + 1}: {options.series} series written in {written[0]:.1f} s, {written[1]:.1f} of a core")
        print(
            f"    {storage.gauges.head_series} living, {after / 2**20:.0f} MiB, {(after - before) / options.series:.0f} bytes a new series"
        )
        print(f"    {(after - first) / options.series / (wave + 1):.0f} bytes a series ever")
        print(f"    the loop was held up for {1000 * max(lags, default=0.0):.0f} ms at most")
        for name, size in structures(storage, receiver).items():
            print(f"    {size / options.series:8.1f} bytes: {name}")
        before = after
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    await storage.close()
    await drop(options.store)


async def look_after(storage: Storage, receiver: RemoteWriteReceiver) -> None:
    """What a daemon does of itself in some hours."""
    await storage.roll_up()
    for _ in range(2):
        for table in receiver.tables:
            await asyncio.to_thread(table.sweep)
        await storage.enforce_retention()
        await storage.flush()


async def watch(lags: list[float]) -> None:
    """Note by how much the loop is late."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(0.005)
        lags.append(time.monotonic() - began - 0.005)


def resident() -> int:
    gc.collect()
    release_freed()
    return resident_bytes()


def bodies(options: argparse.Namespace, wave: int, now_ms: int) -> Iterator[bytes]:
    """Remote write 1.0, each with `BODY_SERIES` new series."""
    times = [now_ms - step * STEP_MS for step in reversed(range(SAMPLES))]
    samples = b"".join(_field(0x12, b"\x09" + np.float64(at % 1000 + 1).tobytes() + b"\x10" + _varint(at)) for at in times)
    for first in range(0, options.series, BODY_SERIES):
        parts = [_series(wave, number, samples) for number in range(first, min(first + BODY_SERIES, options.series))]
        yield bytes(cramjam.snappy.compress_raw(b"".join(parts)))


def _series(wave: int, number: int, samples: bytes) -> bytes:
    pod, metric = divmod(number, SERIES_PER_POD)
    pairs = {
        "__name__": f"container_metric_{metric:03}_total",
        "cluster": "production",
        "container": f"app-{pod % 50}",
        "id": f"/kubepods/burstable/pod{wave:04x}{pod:08x}-4b1c-4b6e-9d5e-3f0d6a4c2f10",
        "instance": f"10.{wave % 250}.{pod // 250 % 250}.{pod % 250}:8080",
        "job": "kubelet",
        "namespace": f"team-{pod % 20}",
        "node": f"node-{pod % 100}.internal",
        "pod": f"app-{pod % 50}-{wave:05x}{pod:06x}",
        "service": f"service-{pod % 50}",
    }
    labels = b"".join(_field(0x0A, _field(0x0A, name.encode()) + _field(0x12, value.encode())) for name, value in pairs.items())
    return _field(0x0A, labels + samples)


def _field(tag: int, payload: bytes) -> bytes:
    return bytes([tag]) + _varint(len(payload)) + payload


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def structures(storage: Storage, receiver: RemoteWriteReceiver) -> dict[str, int]:
    """Bytes that hold something of every series, by what they are."""
    index, head, keep, ingest = storage._index, storage._head, storage._keep, storage._ingest
    tables = [decoder.table for decoder in receiver._decoders.values()]
    symbols = index.symbols
    return {
        **{f"index: {name}": size for name, size in index.sizes.items()},
        "index: symbols": sum(map(sys.getsizeof, (symbols._ids, symbols._strings, *symbols._strings))),
        "head: books": 73 * head._prepared,
        "head: chains": 24 * head.series,
        "head: blocks": head.used_bytes,
        "keep": keep._keep_ms.nbytes,
        "announced series": sys.getsizeof(ingest.unstored),
        "remote write: table": sum(36 * table.count + table.filled + table.arrays.slots.nbytes for table in tables),
    }


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.churn", description=__doc__.split("\n\n")[0])
    parser.add_argument("--series", type=int, default=250_000, help="of a wave")
    parser.add_argument("--waves", type=int, default=4)
    parser.add_argument("--kept", type=int, default=2, help="waves that the retention keeps")
    parser.add_argument("--store", default="", help="a PostgreSQL URL")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
