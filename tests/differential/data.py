"""The data both servers get: every kind of series that PromQL treats differently.

Times stand off every grid that queries use, because Prometheus 2.42 still closes range windows on the left.
"""

from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np

from promlike.model.blocks import STALE_NAN, Bool, Float64, Int64
from promlike.model.labels import Labels, labels

INTERVAL_MS = 15_000
SAMPLES = 360
OFF_GRID_MS = 4_321


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TestSeries:
    """One series: labels, `ts_ms int64[N]`, `values float64[N]`."""

    __test__ = False
    labels: Labels
    ts_ms: Int64
    values: Float64


def build(end_ms: int, seed: int = 7) -> list[TestSeries]:
    """About 150 series over 90 minutes that end shortly before `end_ms` (a multiple of a minute)."""
    builder = _Builder(end_ms - SAMPLES * INTERVAL_MS + OFF_GRID_MS, seed)
    for part in (_counters, _gauges, _histograms, _special):
        part(builder.random, builder.add)
    return builder.series


class Add(Protocol):
    """Add a series; `keep bool[SAMPLES]` leaves samples out, `jitter` moves times by up to so many ms."""

    def __call__(self, name: str, values: Float64, keep: Bool | None = None, jitter: int = 0, **pairs: str) -> None: ...


class _Builder:
    def __init__(self, start_ms: int, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.start_ms = start_ms
        self.series: list[TestSeries] = []

    def add(self, name: str, values: Float64, keep: Bool | None = None, jitter: int = 0, **pairs: str) -> None:
        ts_ms = self.start_ms + np.arange(len(values), dtype=np.int64) * INTERVAL_MS + len(self.series) % 7 * 111
        if jitter:
            ts_ms += self.random.integers(-jitter, jitter, len(values))
        mask = np.ones(len(values), np.bool_) if keep is None else keep
        self.series.append(TestSeries(labels=labels({"__name__": name, **pairs}), ts_ms=ts_ms[mask], values=values[mask]))


def _counters(random: np.random.Generator, add: Add) -> None:
    for n, (job, instance, method, code) in enumerate(
        product(("api", "web"), ("a:1", "b:1", "c:1"), ("GET", "POST"), ("200", "404", "500"))
    ):
        values: Float64 = np.cumsum(random.integers(0, 20, SAMPLES)).astype(np.float64) + 5000
        for at in random.integers(20, SAMPLES, n % 3):
            values[at:] -= values[at] - random.integers(2000, 3000)  # far from zero: see known.py
        keep = random.random(SAMPLES) > 0.1 if n % 4 == 1 else None
        if n % 9 == 5:
            keep = np.arange(SAMPLES) % 60 < 35
        add("http_requests_total", values, keep, 400 if n % 5 == 2 else 0, job=job, instance=instance, method=method, code=code)
    for instance in ("a:1", "b:1", "c:1"):
        add("cpu_seconds_total", np.cumsum(random.random(SAMPLES) * 0.3), job="node", instance=instance, mode="idle")
        add("cpu_seconds_total", np.cumsum(random.random(SAMPLES) * 0.1), job="node", instance=instance, mode="user")


def _gauges(random: np.random.Generator, add: Add) -> None:
    for n, (job, instance) in enumerate(product(("api", "web", "node"), ("a:1", "b:1", "c:1"))):
        add("memory_bytes", np.round(random.normal(5e8, 1e8, SAMPLES)), job=job, instance=instance)
        add("temperature", random.normal(n - 4, 3, SAMPLES).round(2), random.random(SAMPLES) > 0.3, job=job, instance=instance)
        add("limit_bytes", np.full(SAMPLES, 1e9 * (n + 1)), job=job, instance=instance)
        add("up", (random.random(SAMPLES) > 0.05).astype(float), job=job, instance=instance)
    for n, zone in enumerate(("north", "south", "east")):
        add("zone_info", np.ones(SAMPLES), instance=f"{'abc'[n]}:1", zone=zone, version=f"v1.{n}")
    for size in ("small", "large"):
        add("queue_depth", random.integers(0, 9, SAMPLES).astype(float), queue=size)


def _histograms(random: np.random.Generator, add: Add) -> None:
    bounds = ("0.05", "0.1", "0.25", "0.5", "1", "2.5", "+Inf")
    for job, instance in product(("api", "web"), ("a:1", "b:1")):
        counts = np.cumsum(np.cumsum(random.integers(0, 6, (SAMPLES, len(bounds))), axis=1), axis=0).astype(float)
        for n, le in enumerate(bounds):
            add("latency_seconds_bucket", counts[:, n], job=job, instance=instance, le=le)
        add("latency_seconds_count", counts[:, -1], job=job, instance=instance)
        add("latency_seconds_sum", np.cumsum(counts[:, -1]) * 0.01, job=job, instance=instance)


def _special(random: np.random.Generator, add: Add) -> None:
    flapping = random.normal(0, 1, SAMPLES).round(3)
    flapping[40::50] = STALE_NAN
    add("flapping", flapping, np.arange(SAMPLES) % 50 <= 40, kind="stale")
    odd: Float64 = random.normal(0, 10, SAMPLES).round(1)
    odd[::11], odd[5::37], odd[7::41] = np.nan, np.inf, -np.inf
    add("odd_values", odd, kind="mixed")
    add("odd_values", np.abs(odd), kind="absolute")
    add("odd_values", np.nan_to_num(odd, posinf=0.0, neginf=0.0), kind="finite")
    add("rare", np.arange(SAMPLES, dtype=float), np.arange(SAMPLES) % 16 == 3, every="4m")
    add("rare", np.arange(SAMPLES, dtype=float) * -2, np.arange(SAMPLES) % 30 == 1, every="7m30s")
    add("ended", np.arange(SAMPLES, dtype=float), np.arange(SAMPLES) < 200, reason="gone")
    add("constant", np.full(SAMPLES, 42.0))
    add("zero", np.zeros(SAMPLES), sign="plus")
    add("tiny", random.random(SAMPLES) * 1e-9, unit="nano")
    add("huge", random.random(SAMPLES) * 1e24, unit="yotta")
    add("unix_time", 1.6e9 + np.arange(SAMPLES, dtype=float) * 118_368.0, place="utc")
    add("words", np.arange(SAMPLES, dtype=float), text='say "hi"', path="C:\\dir", umlaut="größe", empty="")
    add("words", np.arange(SAMPLES, dtype=float) + 0.5, text="line\nbreak", path="/usr", umlaut="中")
