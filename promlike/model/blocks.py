"""Columns of samples. Axis letters: S series, T steps, N samples.

Arrays stay writable, because a kernel would be compiled a second time for read-only ones; nobody writes into a block that was handed over.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

STALE_BITS = np.uint64(0x7FF0000000000002)
"""The bits of the NaN that marks a series as gone. Compare bits, never values."""

STALE_NAN: float = float(np.array([STALE_BITS], np.uint64).view(np.float64)[0])


def is_stale(values: Float64) -> Bool:
    """Which values are stale markers; the shape is kept."""
    stale: Bool = values.view(np.uint64) == STALE_BITS
    return stale


class Samples(Protocol):
    """Samples of S series: a SampleBlock, or something that reads them when they are asked for.

    A query over many series takes them portion by portion: what a kernel gets was just read and still lies in the processor's cache.
    """

    @property
    def series(self) -> int: ...

    @property
    def count(self) -> int:
        """How many samples there are, as far as is known."""
        ...

    @property
    def portion(self) -> int:
        """How many series to take at once, at least 1."""
        ...

    def rows(self, low: int, high: int) -> "SampleBlock":
        """The samples of the series low..high-1, whose arrays may be shared with others and whose offsets need not begin at 0.

        From any thread. Raises SelectionChanged when they cannot be read any more.
        """
        ...

    def whole(self) -> "SampleBlock":
        """All of them as one valid block. Raises SelectionChanged."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampleBlock:
    """Raw samples of S series, sorted by (series, time), one sample a timestamp.

    `ts_ms int64[N]`, `values float64[N]`; the samples of series i stand at `offsets[i]:offsets[i+1]` (`offsets int64[S+1]`).
    Stale markers are kept with their bits. `start_ts_ms int64[N]`, when known, is the time at which each sample's counter started
    (0: unknown).
    """

    ts_ms: Int64
    values: Float64
    offsets: Int64
    start_ts_ms: Int64 | None = None

    @property
    def series(self) -> int:
        return len(self.offsets) - 1

    @property
    def count(self) -> int:
        """How many samples."""
        return len(self.ts_ms)

    @property
    def portion(self) -> int:
        """See `Samples.portion`."""
        return max(self.series, 1)

    def rows(self, low: int, high: int) -> "SampleBlock":
        """The series low..high-1. The arrays of samples are shared, so `offsets` need not begin at 0."""
        return replace(self, offsets=self.offsets[low : high + 1])

    def whole(self) -> "SampleBlock":
        """All of it."""
        return self

    def validate(self) -> None:
        """Raise ValueError where an invariant does not hold."""
        if len(self.ts_ms) != len(self.values) or self.offsets[0] != 0 or self.offsets[-1] != len(self.ts_ms):
            raise ValueError("columns and offsets of a SampleBlock do not fit each other")
        if (np.diff(self.offsets) < 0).any():
            raise ValueError("offsets of a SampleBlock go backwards")
        inner = np.ones(max(len(self.ts_ms) - 1, 0), bool)
        starts = self.offsets[1:-1]
        inner[starts[(starts > 0) & (starts < len(self.ts_ms))] - 1] = False
        if (np.diff(self.ts_ms)[inner] <= 0).any():
            raise ValueError("times inside a series of a SampleBlock do not rise")

    @classmethod
    def empty(cls, series: int = 0) -> "SampleBlock":
        return cls(ts_ms=np.empty(0, np.int64), values=np.empty(0), offsets=np.zeros(series + 1, np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class StepGrid:
    """The evaluation times `start_ms + k * step_ms` for k in 0..count-1. An instant query has count 1."""

    start_ms: int
    step_ms: int
    count: int

    @property
    def end_ms(self) -> int:
        return self.start_ms + (self.count - 1) * self.step_ms

    def times_ms(self) -> Int64:
        """int64[T]"""
        return self.start_ms + np.arange(self.count, dtype=np.int64) * self.step_ms


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepBlock:
    """Values of S series at T steps: `values float64[S,T]`, `present bool[S,T]`, C-contiguous.

    NaN is a legal value; absence is the mask. What stands in `values` where `present` is false means nothing.
    """

    values: Float64
    present: Bool

    @classmethod
    def empty(cls, steps: int) -> "StepBlock":
        return cls(values=np.empty((0, steps)), present=np.empty((0, steps), np.bool_))
