import math
from bisect import bisect_left

import numpy as np
import pytest

from promlike.model.blocks import Bool, Float64
from promlike.promql.kernels.histogram import classic_histogram

Buckets = list[tuple[float, float]]
"""(upper bound, cumulative count)"""


def almost_equal(a: float, b: float) -> bool:
    if a == b or (math.isnan(a) and math.isnan(b)):
        return True
    if a == 0 or b == 0 or abs(a) + abs(b) < 2.0**-1022:
        return abs(a - b) < 1e-12 * 2.0**-1022
    return abs(a - b) / (abs(a) + abs(b)) < 1e-12


def coalesce(buckets: Buckets) -> Buckets:
    counts: dict[float, float] = {}
    for bound, count in sorted(buckets, key=lambda bucket: bucket[0]):
        counts[bound] = counts[bound] + count if bound in counts else count
    return list(counts.items())


def monotonic(buckets: Buckets) -> tuple[Buckets, bool]:
    fixed, forced, previous = [buckets[0]], False, buckets[0][1]
    for bound, count in buckets[1:]:
        if not almost_equal(previous, count):
            if count < previous:
                forced = True
            else:
                previous = count
        fixed.append((bound, previous))
    return fixed, forced


def quantile_twin(q: float, buckets: Buckets) -> tuple[float, bool]:
    if math.isnan(q):
        return math.nan, False
    if not 0 <= q <= 1:
        return math.copysign(math.inf, q), False
    buckets = coalesce(buckets)
    if buckets[-1][0] != math.inf:
        return math.nan, False
    buckets, forced = monotonic(buckets)
    observations = buckets[-1][1]
    if len(buckets) < 2 or observations == 0:
        return math.nan, forced
    rank = q * observations
    b = bisect_left(range(len(buckets) - 1), True, key=lambda i: buckets[i][1] >= rank)  # binary, which matters among NaN
    if b == len(buckets) - 1:
        return buckets[-2][0], forced
    if b == 0 and buckets[0][0] <= 0:
        return buckets[0][0], forced
    start, below = buckets[b - 1] if b else (0.0, 0.0)
    end, count = buckets[b]
    share = float(np.float64(rank - below) / np.float64(count - below))
    return start + (end - start) * share, forced


def rank_twin(bound: float, buckets: Buckets) -> float:
    below, start = 0.0, -math.inf
    for end, count in buckets:
        if bound <= start:
            break
        if bound < end:
            return below + (count - below) * (bound - start) / (end - start) if math.isfinite(start) else count
        below, start = count, end
    return below


def fraction_twin(lower: float, upper: float, buckets: Buckets) -> float:
    buckets = coalesce(buckets)
    count = buckets[-1][1]
    if buckets[-1][0] != math.inf or count == 0 or math.isnan(lower) or math.isnan(upper):
        return math.nan
    if lower >= upper:
        return 0.0
    return (min(rank_twin(upper, buckets), count) - min(rank_twin(lower, buckets), count)) / count


def compute(histograms: list[Buckets], present: Bool, first: Float64, second: Float64, fraction: bool) -> tuple[Float64, Bool, Bool]:
    """Put every histogram's buckets below each other, at every step the same; `present bool[R,T]` says which exist."""
    offsets = np.cumsum([0, *(len(buckets) for buckets in histograms)]).astype(np.int64)
    counts = np.array([count for buckets in histograms for _, count in buckets])
    bounds = np.array([bound for buckets in histograms for bound, _ in buckets])
    group = np.repeat(np.arange(len(histograms)), np.diff(offsets))
    rows = np.lexsort((bounds, group)).astype(np.int64)
    values = np.repeat(counts[:, np.newaxis], len(first), axis=1)
    out, out_present = np.zeros((len(histograms), len(first))), np.zeros((len(histograms), len(first)), np.bool_)
    forced = np.zeros((len(histograms), 6))
    classic_histogram(values, present, rows, bounds[rows], offsets, first, second, fraction, out, out_present, forced)
    return out, out_present, forced[:, 0] > 0


def random_histograms(seed: int) -> list[Buckets]:
    rng = np.random.default_rng(seed)
    histograms = []
    for _ in range(20):
        bounds = [*rng.choice([-1.0, 0.0, 0.5, 1.0, 2.0, 10.0], rng.integers(0, 6)).tolist(), math.inf]
        counts = rng.integers(0, 4, len(bounds)).cumsum() * rng.choice([1.0, 0.1])
        match rng.integers(0, 5):
            case 0:
                counts = counts + rng.integers(-2, 1, len(counts))
            case 1:
                counts = counts * (1 + rng.normal(size=len(counts)) * 1e-15)
            case 2:
                counts[rng.integers(0, len(counts))] = math.nan
        histograms.append(list(zip(bounds[: len(bounds) - int(rng.random() < 0.1)], counts.tolist(), strict=False)))
    return histograms


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_quantiles_agree_with_their_twin_bit_for_bit() -> None:
    q = np.array([0.0, 0.1, 0.5, 0.9, 1.0, -1.0, 2.0, math.nan])
    for seed in range(30):
        histograms = random_histograms(seed)
        present = np.random.default_rng(seed).random((sum(map(len, histograms)), len(q))) < 0.9
        out, out_present, forced = compute(histograms, present, q, q, False)
        row = 0
        for g, buckets in enumerate(histograms):
            was_forced = False
            for k, phi in enumerate(q.tolist()):
                there = [bucket for bucket, shown in zip(buckets, present[row : row + len(buckets), k], strict=True) if shown]
                assert out_present[g, k] == bool(there)
                if there:
                    value, fixed = quantile_twin(phi, there)
                    was_forced |= fixed
                    assert same(out[g, k], value), (seed, g, phi, there)
            assert forced[g] == was_forced
            row += len(buckets)


def test_fractions_agree_with_their_twin() -> None:
    edges = [-math.inf, -2.0, -1.0, 0.0, 0.3, 0.5, 1.7, 10.0, 11.0, math.inf, math.nan]
    lower = np.array([a for a in edges for _ in edges])
    upper = np.array([b for _ in edges for b in edges])
    for seed in range(30):
        histograms = [[(b, max(c, 0.0)) for b, c in h if not math.isnan(c)] or [(1.0, 1.0)] for h in random_histograms(seed)]
        present = np.ones((sum(map(len, histograms)), len(lower)), np.bool_)
        out, _, _ = compute(histograms, present, lower, upper, True)
        for g, buckets in enumerate(histograms):
            for k, (a, b) in enumerate(zip(lower.tolist(), upper.tolist(), strict=True)):
                assert same(out[g, k], fraction_twin(a, b, buckets)), (seed, g, a, b, buckets)


@pytest.mark.parametrize(
    ("buckets", "q", "expected"),
    [
        ([(0.1, 5.0), (0.2, 7.0), (1.0, 11.0), (math.inf, 12.0)], 0.5, 0.15),
        ([(0.1, 5.0), (0.2, 7.0), (1.0, 11.0), (math.inf, 12.0)], 1.0, 1.0),
        ([(-0.2, 1.0), (-0.1, 2.0), (0.3, 2.0), (math.inf, 3.0)], 0.3, -0.2),
        ([(0.1, 0.0), (math.inf, 0.0)], 0.5, math.nan),
        ([(0.1, 5.0), (0.2, 7.0)], 0.5, math.nan),
        ([(math.inf, 7.0)], 0.5, math.nan),
    ],
)
def test_quantiles_of_known_buckets(buckets: Buckets, q: float, expected: float) -> None:
    phi = np.array([q])
    out, _, _ = compute([buckets], np.ones((len(buckets), 1), np.bool_), phi, phi, False)
    assert out[0, 0] == pytest.approx(expected, nan_ok=True)
