"""How the value of a sample stands in the table: as a number of its own, or as a decimal fraction, `scaled / divisor`.

TimescaleDB codes floats by XOR with the one before, and whole numbers by how much their differences change (delta of delta). Most values
are short decimal fractions, such as 3.25 or 12,001, in which XOR sees noise where 325 and 12,001 are small steps. So a run of samples
goes into `scaled bigint` and `divisor float8`, a power of ten, where these give back each value bit by bit, and into `value float8`
where not; what a row does not use is NULL. For the metrics of servers this takes a third of the bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Float64, Int32, Int64
from promlike.storage.timescale.copy import SAMPLE, encode_columns, stream_of

PLACES = 9
"""Digits after the point at most: nanoseconds in seconds."""
POWERS: Float64 = np.array([float(10**places) for places in range(PLACES + 1)])
LARGEST = 2.0**53
"""Up to here a float is every whole number; `scaled` is turned into one to be divided."""
HALF_WORD = 2**31
"""TimescaleDB packs changes of differences up to here two into a word of 64 bits, and larger ones one (simple8b)."""

WHOLE = dict(zip(("ts", "series_id", "value"), SAMPLE, strict=True))
DECIMAL = {"ts": "timestamptz", "series_id": "int4", "scaled": "int8", "divisor": "float8"}
"""The columns that a row fills, by how its value stands there, with their types."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Rows of samples as a binary COPY stream, and the columns that they fill."""

    columns: tuple[str, ...]
    stream: bytes


def value_of(table: str = "") -> str:
    """The value of a row of this table, or of the only one, in SQL."""
    prefix = table and f"{table}."
    return f"coalesce({prefix}value, {prefix}scaled / {prefix}divisor)"


def encode_samples(ids: Int32, ts_ms: Int64, values: Float64, offsets: Int64, *, decimals: bool) -> list[Rows]:
    """The rows of N samples, all in their order; `offsets int64[S+1]` says which are of one series.

    `decimals`: may values stand as decimal fractions? It only saves room where the database compresses.
    """
    if not decimals:
        return [_rows(WHOLE, ts_ms, ids, values)]
    scaled, divisors = find_decimals(values, offsets)
    exact = divisors > 0
    if exact.all():
        return [_rows(DECIMAL, ts_ms, ids, scaled, divisors)]
    found = [_rows(WHOLE, ts_ms[~exact], ids[~exact], values[~exact])]
    if exact.any():
        found.append(_rows(DECIMAL, ts_ms[exact], ids[exact], scaled[exact], divisors[exact]))
    return found


async def copy_samples(connection: Any, table: str, rows: Sequence[Rows]) -> None:
    """Put rows into a table."""
    for part in rows:
        await connection.copy_to_table(table, columns=part.columns, source=stream_of(part.stream), format="binary")


def _rows(columns: Mapping[str, str], *arrays: NDArray[Any]) -> Rows:
    return Rows(columns=tuple(columns), stream=encode_columns(tuple(columns.values()), *arrays))


def find_decimals(values: Float64, offsets: Int64) -> tuple[Int64, Float64]:
    """Whole numbers int64[N] and divisors float64[N] that give the values (float64[N]) bit by bit; divisor 0 where the value is to stay.

    One divisor serves a run, which is what `offsets int64[S+1]` parts. Its NaNs, infinities and negative zeros stay; so does a run in
    which any other value has more digits than fit, or which changes so wildly that XOR is the shorter code.
    """
    scaled, divisors = np.empty(len(values), np.int64), np.empty(len(values), np.float64)
    scale_runs(np.require(values, np.float64, ["C", "W"]), np.require(offsets, np.int64, ["C", "W"]), POWERS, scaled, divisors)
    return scaled, divisors


@kernel("(f8[::1], i8[::1], f8[::1], i8[::1], f8[::1])")
def scale_runs(values: Float64, offsets: Int64, powers: Float64, scaled: Int64, divisors: Float64) -> None:
    """Fill `scaled` and `divisors`, see `find_decimals`."""
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        places = _find_places(values, start, end, powers)
        if places < 0 or not _scale(values, start, end, powers[places], scaled, divisors):
            divisors[start:end] = 0.0


@inlined
def _find_places(values: Float64, start: int, end: int, powers: Float64) -> int:
    """How many digits after the point the value with most of them has, -1 for more than there are powers."""
    places = 0
    for k in range(start, end):
        if not np.isfinite(values[k]):
            continue
        while np.rint(values[k] * powers[places]) / powers[places] != values[k]:
            places += 1
            if places == len(powers):
                return -1
    return places


@inlined
def _scale(values: Float64, start: int, end: int, power: float, scaled: Int64, divisors: Float64) -> bool:
    """Fill one run; False when it is to stay as it is."""
    before, step, wild = 0, 0, 0
    for k in range(start, end):
        number = np.rint(values[k] * power)
        if not np.isfinite(values[k]) or (values[k] == 0.0 and np.signbit(values[k])):
            scaled[k], divisors[k] = 0, 0.0
            continue
        if abs(number) > LARGEST or number / power != values[k]:
            return False
        scaled[k], divisors[k] = np.int64(number), power
        wild += k > start + 1 and abs(scaled[k] - before - step) >= HALF_WORD
        before, step = scaled[k], scaled[k] - before
    return 4 * wild <= end - start
