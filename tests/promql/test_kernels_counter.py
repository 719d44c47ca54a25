import math
from itertools import pairwise

import numpy as np
import pytest

from promlike.model.blocks import Int64, SampleBlock
from promlike.promql.kernels.counter import Events, count_events, extrapolated_rate, instant_rate
from tests.promql.window_data import ENDS_MS, RANGES_MS, SEEDS, Window, assert_bits, blank, block_of, by_windows, random_block, window

NO_STARTS: Int64 = np.empty(0, np.int64)
UNKNOWN = 0


def restarted(starts: dict[int, int], before: int, ts: int) -> bool:
    start = starts.get(ts, UNKNOWN)
    if start == UNKNOWN or not before <= start <= ts:
        return False
    previous = starts.get(before, UNKNOWN)
    return start > before or (previous != UNKNOWN and previous < before)


def rate_twin(samples: Window, end_ms: int, range_ms: int, is_counter: bool, is_rate: bool, starts: dict[int, int]) -> float | None:
    times, values = samples
    start = starts.get(times[0], UNKNOWN)
    zero_ms = start if is_counter and end_ms - range_ms < start < times[0] and start != UNKNOWN else None
    if len(values) < 2 and zero_ms is None:
        return None
    result = values[-1] - values[0] if zero_ms is None else values[-1]
    for i in range(1, len(values)):
        if is_counter and (values[i] < values[i - 1] or restarted(starts, times[i - 1], times[i])):
            result += values[i - 1]
    sampled = (times[-1] - times[0]) / 1000
    between = sampled / (len(values) - 1) if len(values) > 1 else 0.0
    to_start = (times[0] - (end_ms - range_ms)) / 1000
    to_end = (end_ms - times[-1]) / 1000
    if to_start >= between * 1.1:
        to_start = between / 2
    if is_counter and result > 0 and values[0] >= 0 and zero_ms is None:
        to_start = min(to_start, sampled * (values[0] / result))
    if to_end >= between * 1.1:
        to_end = between / 2
    if zero_ms is not None:
        sampled, to_start = (times[-1] - zero_ms) / 1000, 0.0
    factor = (sampled + to_start + to_end) / sampled
    return result * (factor / (range_ms / 1000) if is_rate else factor)


def rates(block: SampleBlock, range_ms: int, is_counter: bool, is_rate: bool, starts: Int64) -> tuple[list[list[float]], list[list[bool]]]:
    out, present = blank(block, ENDS_MS)
    extrapolated_rate(
        block.ts_ms, block.values, block.offsets, starts, ENDS_MS, range_ms, range_ms / 1000, is_counter, is_rate, out, present
    )
    return out.tolist(), present.tolist()


def expected_rates(
    block: SampleBlock, range_ms: int, is_counter: bool, is_rate: bool, starts: list[dict[int, int]]
) -> list[list[float | None]]:
    rows: list[list[float | None]] = []
    for series in range(block.series):
        row: list[float | None] = []
        for end_ms in ENDS_MS.tolist():
            samples = window(block, series, end_ms, range_ms)
            row.append(rate_twin(samples, end_ms, range_ms, is_counter, is_rate, starts[series]) if samples[0] else None)
        rows.append(row)
    return rows


@pytest.mark.parametrize(("is_counter", "is_rate"), [(True, True), (True, False), (False, False)])
def test_rates_agree_with_their_twin_bit_for_bit(is_counter: bool, is_rate: bool) -> None:
    for seed in SEEDS:
        block = random_block(seed)
        for range_ms in RANGES_MS:
            out, present = rates(block, range_ms, is_counter, is_rate, NO_STARTS)
            expected = expected_rates(block, range_ms, is_counter, is_rate, [{}] * block.series)
            assert_bits(np.array(out), np.array(present), expected)


def random_starts(block: SampleBlock, seed: int) -> Int64:
    """Start timestamps before, at and after their samples and the samples before those, and unknown ones."""
    rng = np.random.default_rng(seed)
    starts: Int64 = block.ts_ms - rng.integers(-1, 3, len(block.ts_ms)) * rng.choice([1, 700, 40_000], len(block.ts_ms))
    at_previous = rng.random(len(starts)) < 0.3
    starts[1:] = np.where(at_previous[1:], block.ts_ms[:-1], starts[1:])
    starts[rng.random(len(starts)) < 0.2] = UNKNOWN
    return starts


def test_rates_use_start_timestamps_as_their_twin_does() -> None:
    for seed in SEEDS:
        block = random_block(seed)
        column = random_starts(block, seed)
        starts = [
            dict(zip(block.ts_ms[low:high].tolist(), column[low:high].tolist(), strict=True))
            for low, high in zip(block.offsets[:-1], block.offsets[1:], strict=True)
        ]
        for is_counter in (True, False):
            out, present = rates(block, 20_000, is_counter, True, column)
            assert_bits(np.array(out), np.array(present), expected_rates(block, 20_000, is_counter, True, starts))


@pytest.mark.parametrize("is_rate", [True, False])
def test_instant_rates_look_at_the_last_two_samples(is_rate: bool) -> None:
    def twin(samples: Window) -> float | None:
        if len(samples[0]) < 2:
            return None
        (before, ts), (previous, last) = samples[0][-2:], samples[1][-2:]
        if not is_rate:
            return last - previous
        return (last if last < previous else last - previous) / ((ts - before) / 1000)

    for seed in SEEDS:
        block = random_block(seed)
        for range_ms in RANGES_MS:
            out, present = blank(block, ENDS_MS)
            instant_rate(block.ts_ms, block.values, block.offsets, NO_STARTS, ENDS_MS, range_ms, is_rate, out, present)
            assert_bits(out, present, by_windows(block, ENDS_MS, range_ms, twin))


def is_event(op: Events, before: float, after: float) -> bool:
    if op is Events.RESETS:
        return after < before
    return after != before and not (math.isnan(before) and math.isnan(after))


@pytest.mark.parametrize("op", list(Events))
@pytest.mark.parametrize("anchor_ms", [-1, 0, 30_000])
def test_events_are_counted_between_neighbours(op: Events, anchor_ms: int) -> None:
    for seed in SEEDS:
        block = random_block(seed)
        for range_ms in RANGES_MS:
            out, present = blank(block, ENDS_MS)
            count_events(block.ts_ms, block.values, block.offsets, NO_STARTS, ENDS_MS, range_ms, anchor_ms, int(op), out, present)
            expected: list[list[float | None]] = []
            for series in range(block.series):
                row: list[float | None] = []
                for end_ms in ENDS_MS.tolist():
                    values = window(block, series, end_ms, range_ms)[1]
                    before = window(block, series, end_ms - range_ms, max(anchor_ms, 0))[1][-1:]
                    walk = before + values
                    events = sum(is_event(op, a, b) for a, b in pairwise(walk))
                    row.append(float(events) if values else None)
                expected.append(row)
            assert_bits(out, present, expected)


def test_a_rate_is_extrapolated_to_the_borders_and_not_below_zero() -> None:
    block = block_of([[(0, 1.0), (15_000, 2.0), (30_000, 3.0), (75_000, 9.0)]])
    cases = [(20_000, 1.833333333), (35_000, 2.833333333), (50_000, 3.166666666), (80_000, 8.0)]
    for end_ms, increase in cases:
        out, present = np.zeros((1, 1)), np.zeros((1, 1), np.bool_)
        ends = np.array([end_ms], np.int64)
        extrapolated_rate(block.ts_ms, block.values, block.offsets, NO_STARTS, ends, 60_000, 60.0, True, False, out, present)
        assert out[0, 0] == pytest.approx(increase), end_ms
