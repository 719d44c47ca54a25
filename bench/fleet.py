"""The series of a made-up fleet: web services with histograms and counters, machines with node_exporter's metrics.

Axis letters: S series, T steps, I instances.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = tuple[tuple[str, str], ...]

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BUCKETS = (*(f"{bound:g}" for bound in BOUNDS), "+Inf")
HANDLERS = ("/api/v1/items", "/api/v1/orders", "/api/v1/users", "/api/v2/search", "/login", "/static")
METHODS = ("GET", "POST")
STATUSES = ("200", "302", "404", "500")
MODES = ("idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user")
MOUNTS = (("/", "sda1", "ext4"), ("/boot", "sda2", "vfat"), ("/var", "sdb1", "xfs"), ("/srv", "sdc1", "xfs"), ("/home", "sdd1", "ext4"))
STEP_SECONDS = 15


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fleet:
    """S series with T samples each: `values float64[S,T]`; series s has its sample k at `start_ms + k * 15 s + phase_ms[s]`."""

    labels: list[Labels]
    values: Floats
    phase_ms: NDArray[np.int64]
    start_ms: int

    @property
    def end_ms(self) -> int:
        """No sample is later."""
        return self.start_ms + int(self.values.shape[1]) * STEP_SECONDS * 1000

    @property
    def samples(self) -> int:
        return int(self.values.size)


def make_fleet(*, series: int, steps: int, end_ms: int, seed: int = 1) -> Fleet:
    """About 180 series an instance, with 7 to 11 labels; each instance has its own phase, so that no sample lies on a step of a query."""
    rng = np.random.default_rng(seed)
    labels: list[Labels] = []
    values: list[Floats] = []
    phases: list[NDArray[np.int64]] = []
    instance = 0
    while len(labels) < series:
        more_labels, more_values = _instance(instance, steps, rng)
        phases.append(np.full(len(more_labels), int(rng.integers(0, 14)) * 1000 + int(rng.integers(1, 1000)), np.int64))
        labels += more_labels
        values.append(more_values)
        instance += 1
    return Fleet(
        labels=labels[:series],
        values=np.concatenate(values)[:series],
        phase_ms=np.concatenate(phases)[:series],
        start_ms=end_ms // 1000 * 1000 - steps * STEP_SECONDS * 1000,
    )


def _instance(number: int, steps: int, rng: np.random.Generator) -> tuple[list[Labels], Floats]:
    common = {
        "cluster": f"eu-west-{number % 3 + 1}",
        "instance": f"10.20.{number // 250}.{number % 250}:9100",
        "job": ("api", "web", "worker")[number % 3],
        "namespace": ("production", "staging")[number % 2],
    }
    app = {**common, "pod": f"{common['job']}-7c9f6d5b8-{number:05d}"}
    node = {**common, "datacenter": "dc1", "rack": f"r{number % 12:02d}"}
    rows: list[tuple[str, dict[str, str]]] = []
    values: list[Floats] = []

    for handler in HANDLERS:
        counts, total = _histogram(steps, rng)
        of_handler = {**app, "handler": handler, "method": "GET", "status": "200"}
        rows += [("http_request_duration_seconds_bucket", {**of_handler, "le": le}) for le in BUCKETS]
        rows += [("http_request_duration_seconds_sum", of_handler), ("http_request_duration_seconds_count", of_handler)]
        values += [counts, total[None, :], counts[-1:]]
    requests = [{**app, "handler": h, "method": m, "status": s} for h in HANDLERS for m in METHODS for s in STATUSES]
    rows += [("http_requests_total", labels) for labels in requests]
    rate = np.array([0.0 if r["status"] == "500" and r["method"] == "POST" else rng.uniform(0.01, 40) for r in requests])
    values.append(_counter(rng.poisson(rate[:, None] * STEP_SECONDS, (len(requests), steps)).astype(float), rng))

    cpus = [{**node, "cpu": str(cpu), "mode": mode} for cpu in range(4) for mode in MODES]
    rows += [("node_cpu_seconds_total", labels) for labels in cpus]
    share = rng.dirichlet(np.array([30, 1, 0.5, 0.5, 1, 0.5, 4, 8]), (4, steps)).transpose(0, 2, 1).reshape(len(cpus), steps)
    values.append(np.round(_counter(np.round(share * STEP_SECONDS, 2), rng), 2))
    for name, level in (("node_filesystem_avail_bytes", 4e10), ("node_filesystem_size_bytes", 1e11)):
        rows += [(name, {**node, "device": f"/dev/{device}", "fstype": kind, "mountpoint": mount}) for mount, device, kind in MOUNTS]
        values.append(_gauge((len(MOUNTS), steps), level, 4096 * 50 if level < 1e11 else 0.0, rng))
    for name, level, width in (
        ("node_memory_MemAvailable_bytes", 8e9, 1e6),
        ("node_load1", 2.0, 0.05),
        ("process_resident_memory_bytes", 3e8, 4096.0),
        ("go_goroutines", 400.0, 3.0),
    ):
        rows.append((name, node))
        values.append(_gauge((1, steps), level, width, rng))
    rows += [("up", node), ("app_build_info", {**node, "version": f"1.{number % 7}.0", "revision": f"{number * 7919:08x}"})]
    values.append(np.ones((2, steps)))
    return [tuple(sorted({**labels, "__name__": name}.items())) for name, labels in rows], np.concatenate(values)


def _counter(increments: Floats, rng: np.random.Generator) -> Floats:
    """Sums of increments float64[S,T], begun a day before; all of them start anew at one step, in one instance of five."""
    day = 86_400 // STEP_SECONDS
    sums: Floats = np.cumsum(increments, axis=1) + (increments.mean(axis=1, keepdims=True) * day).round()
    if rng.random() < 0.2 and sums.shape[1] > 2:
        at = int(rng.integers(1, sums.shape[1]))
        sums[:, at:] -= sums[:, at - 1 : at]
    return sums


def _histogram(steps: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Cumulative buckets float64[B,T] and the sum of what was observed float64[T]."""
    weights = rng.dirichlet(np.array([1, 2, 4, 8, 8, 5, 3, 2, 1, 0.5, 0.2, 0.05]))
    observed = rng.poisson(weights[:, None] * rng.uniform(1, 30) * STEP_SECONDS, (len(BUCKETS), steps)).astype(float)
    middles = np.array([0.003, *(bound * 0.8 for bound in BOUNDS[1:]), 12.0])
    both = _counter(np.concatenate([np.cumsum(observed, axis=0), (middles @ observed)[None, :]]), rng)
    return both[:-1], both[-1]


def _gauge(shape: tuple[int, int], level: float, width: float, rng: np.random.Generator) -> Floats:
    """Random walks that stay above zero."""
    walk = level * rng.uniform(0.5, 1.5, (shape[0], 1)) + np.cumsum(rng.normal(0.0, width, shape), axis=1)
    return np.abs(walk).round(2)
