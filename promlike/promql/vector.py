"""Values while a query is evaluated. Axis letters: S series, T steps, N samples.

Arrays of a value are shared between values and never written to after they were handed over.
"""

from dataclasses import dataclass

import numpy as np

from promlike.model.blocks import Bool, Float64, Int64, Samples, StepBlock, StepGrid
from promlike.model.frame import LabelFrame, SymbolScope
from promlike.model.tiers import Tier


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VectorValue:
    """An instant vector at T steps: labels and values of S series, row for row; the order of rows is significant.

    `drop_name bool[S]`: series that lose `__name__`, `__type__` and `__unit__` at the end of the query (delayed name removal); None: none.
    No two rows with the same labels are present at the same step. Rows that are never present may occur.
    """

    labels: LabelFrame
    block: StepBlock
    drop_name: Bool | None = None

    def __len__(self) -> int:
        return len(self.block.values)

    @classmethod
    def empty(cls, symbols: SymbolScope, steps: int) -> "VectorValue":
        return cls(labels=LabelFrame.empty(symbols), block=StepBlock.empty(steps))

    @classmethod
    def single(cls, symbols: SymbolScope, values: Float64, present: Bool | None = None) -> "VectorValue":
        """One series without labels; `values float64[T]`, `present bool[T]` (None: everywhere)."""
        row = np.ones(len(values), np.bool_) if present is None else present
        labels = LabelFrame(names=(), codes=np.empty((1, 0), np.int32), symbols=symbols)
        return cls(labels=labels, block=StepBlock(values=values.reshape(1, -1), present=row.reshape(1, -1)))

    def with_values(self, values: Float64, present: Bool | None = None) -> "VectorValue":
        """The same series with other `values float64[S,T]` (and `present bool[S,T]`)."""
        block = StepBlock(values=values, present=self.block.present if present is None else present)
        return VectorValue(labels=self.labels, block=block, drop_name=self.drop_name)

    def take(self, rows: Int64 | Bool) -> "VectorValue":
        """The chosen series, by `int64[K]` index or `bool[S]` mask."""
        block = StepBlock(values=self.block.values[rows], present=self.block.present[rows])
        return VectorValue(labels=self.labels.take(rows), block=block, drop_name=None if self.drop_name is None else self.drop_name[rows])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScalarValue:
    """`values float64[T]`"""

    values: Float64


@dataclass(frozen=True, slots=True, kw_only=True)
class StringValue:
    value: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RangeValue:
    """A range vector: at step k, series i has those of its samples that lie in the window `(ends_ms[k] - range_ms, ends_ms[k]]`.

    `samples` (S series, stale markers removed) hold every window and may hold more on both sides; with `anchored` or `smoothed` they reach
    back `lookback_ms` before the first window, with `smoothed` also `lookback_ms` past the last one. `ends_ms int64[T]` never falls: the
    evaluation times `grid` after @ and offset (constant under @). `grid` tells the evaluation time itself, as predict_linear needs it.
    Rows may have no sample at all; `drop_name bool[S]` as in VectorValue.
    """

    labels: LabelFrame
    samples: Samples
    grid: StepGrid
    ends_ms: Int64
    range_ms: int
    lookback_ms: int
    anchored: bool = False
    smoothed: bool = False
    drop_name: Bool | None = None

    def __len__(self) -> int:
        return self.samples.series

    def vector(self, values: Float64, present: Bool) -> VectorValue:
        """What a function makes of each series: `values float64[S,T]`, `present bool[S,T]`."""
        return VectorValue(labels=self.labels, block=StepBlock(values=values, present=present), drop_name=self.drop_name)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TierValue:
    """A range vector whose samples are rolled up: at step k, series i has the rows of the buckets in `(ends_ms[k] - range_ms, ends_ms[k]]`.

    `tier` holds rows of every window and may hold more, some of which may be of stale markers alone. `ends_ms int64[T]` (which never falls)
    and `range_ms` are multiples of its resolution; the range that was asked for is `asked_ms`.
    """

    labels: LabelFrame
    tier: Tier
    ends_ms: Int64
    range_ms: int
    asked_ms: int

    def __len__(self) -> int:
        return self.tier.series

    def vector(self, values: Float64, present: Bool) -> VectorValue:
        """What a function makes of each series: `values float64[S,T]`, `present bool[S,T]`."""
        return VectorValue(labels=self.labels, block=StepBlock(values=values, present=present))


Value = VectorValue | ScalarValue | StringValue | RangeValue | TierValue
