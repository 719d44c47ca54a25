"""The state of one query while its tree is evaluated."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from promlike.model.blocks import Bool, Float64, SampleBlock, StepGrid
from promlike.model.frame import SymbolScope
from promlike.promql import ast
from promlike.promql.annotations import Annotations, Scope
from promlike.promql.budget import CELL_BYTES, SAMPLE_BYTES, Budget
from promlike.promql.context import Chunks
from promlike.promql.options import Deadline, Features
from promlike.promql.shape import Shape, strip_parens
from promlike.promql.timing import Timing
from promlike.promql.vector import RangeValue, ScalarValue, StringValue, TierValue, Value, VectorValue
from promlike.storage.access import SelectRequest, SeriesBlock


@dataclass(slots=True, kw_only=True, eq=False)
class Execution:
    """Evaluates expressions at grids. `dispatch` computes one node; everything that holds for all nodes is done here.

    That is: a step-invariant subtree is computed once and repeated for all steps, a subtree that occurs again is taken from memory (unless
    it had annotations, which each occurrence gives with its own position), the deadline is checked and the budget kept.
    """

    dispatch: Callable[["Execution", ast.Expr, StepGrid], Value]
    shape: Shape
    timing: Timing
    features: Features
    annotations: Annotations
    symbols: SymbolScope
    chunks: Chunks
    deadline: Deadline
    budget: Budget
    fetched: Mapping[SelectRequest, SeriesBlock]
    repeatable: bool = True
    """See `QueryResult.repeatable`."""
    _memory: dict[tuple[int, StepGrid], Value] = field(default_factory=dict)
    _kept: int = 0
    """Bytes of the values in memory."""

    def evaluate(self, expr: ast.Expr, grid: StepGrid) -> Value:
        expr = strip_parens(expr)
        key = (self.shape.number(expr), grid)
        known = self._memory.get(key)
        if known is not None:
            return known
        self.deadline.check()
        annotations = len(self.annotations)
        mark, kept = self.budget.mark(), self._kept
        value = self._compute(expr, grid)
        self.budget.release((mark[0], mark[1] + self._kept - kept))  # what was put into memory meanwhile stays
        cells, taken = size(value), self._bytes(value)
        self.budget.hold(cells, taken)
        if self.shape.is_repeated(expr) and len(self.annotations) == annotations:
            self._memory[key] = value
            self._kept += taken
        return value

    def _bytes(self, value: Value) -> int:
        """What a value takes beside the samples that were fetched."""
        match value:
            case VectorValue():
                return value.block.values.size * CELL_BYTES + value.labels.codes.nbytes
            case RangeValue():
                made = isinstance(value.samples, SampleBlock) and all(value.samples is not block.samples for block in self.fetched.values())
                return value.samples.count * SAMPLE_BYTES if made else 0
            case _:
                return size(value) * CELL_BYTES

    def _compute(self, expr: ast.Expr, grid: StepGrid) -> Value:
        if grid.count > 1 and self.shape.is_invariant(expr) and not isinstance(expr, ONCE_FOR_ALL_STEPS):
            once = StepGrid(start_ms=grid.start_ms, step_ms=grid.step_ms, count=1)
            with self.annotations.beneath(Scope.STILL):
                value = self.evaluate(expr, once)
            cells = size(value) * grid.count
            self.budget.hold(cells, cells * CELL_BYTES)
            return repeat(value, grid.count)
        return self.dispatch(self, expr, grid)

    def vector(self, expr: ast.Expr, grid: StepGrid) -> VectorValue:
        value = self.evaluate(expr, grid)
        if not isinstance(value, VectorValue):
            raise TypeError(f"expected an instant vector, got {type(value).__name__}")
        return value

    def scalar(self, expr: ast.Expr, grid: StepGrid) -> Float64:
        """float64[T]"""
        value = self.evaluate(expr, grid)
        if not isinstance(value, ScalarValue):
            raise TypeError(f"expected a scalar, got {type(value).__name__}")
        return value.values

    def string(self, expr: ast.Expr, grid: StepGrid) -> str:
        value = self.evaluate(expr, grid)
        if not isinstance(value, StringValue):
            raise TypeError(f"expected a string, got {type(value).__name__}")
        return value.value

    def allocate(self, rows: int, steps: int) -> tuple[Float64, Bool]:
        """A float64[S,T] and a bool[S,T] for the values and presence of a block, after the budget agreed; their content is undefined."""
        self.budget.hold(rows * steps, rows * steps * CELL_BYTES)
        return np.empty((rows, steps)), np.empty((rows, steps), np.bool_)

    def map_rows(self, function: Callable[[int, int], None], rows: int, work: int) -> None:
        """Call `function(low, high)` for ranges that cover 0..rows, spread over threads when the work (in cells) is big."""
        self.chunks.map(function, rows, work)


ONCE_FOR_ALL_STEPS = (ast.NumberLiteral, ast.StringLiteral, ast.MatrixSelector, ast.Subquery)
"""Nodes that know themselves how to give many steps of what does not change: a number, a string, and windows that stand still."""


def size(value: Value) -> int:
    """Cells, samples or rows of a value."""
    match value:
        case VectorValue():
            return value.block.values.size
        case RangeValue():
            return value.samples.count
        case TierValue():
            return value.tier.count
        case ScalarValue():
            return len(value.values)
        case StringValue():
            return 0


def repeat(value: Value, steps: int) -> Value:
    """The one step of a value, `steps` times."""
    match value:
        case VectorValue():
            values = np.repeat(value.block.values, steps, axis=1)
            return value.with_values(values, np.repeat(value.block.present, steps, axis=1))
        case ScalarValue():
            return ScalarValue(values=np.repeat(value.values, steps))
        case _:
            return value
