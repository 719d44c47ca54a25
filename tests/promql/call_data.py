"""Calls of evaluators without an engine: a context, values from plain Python, results as plain Python."""

import math
from collections.abc import Sequence

import numpy as np

from promlike.model.blocks import Int64, SampleBlock, StepBlock, StepGrid
from promlike.model.frame import LabelFrame, SymbolScope
from promlike.model.labels import Labels, labels
from promlike.promql import ast
from promlike.promql.annotations import Annotations
from promlike.promql.calls.table import EVALUATORS
from promlike.promql.context import CallContext, Chunks, QueryWindow
from promlike.promql.options import Deadline, Features
from promlike.promql.vector import RangeValue, ScalarValue, StringValue, Value, VectorValue

Row = tuple[dict[str, str], Sequence[float | None]]
"""Labels and the values of one series at every step; None: absent."""


class Call:
    """One call at T steps, a second apart from 1000 s on. Argument i of the call has the span 10*i, so its annotations say `1:10i+1`."""

    def __init__(
        self, steps: int = 1, *, features: Features | None = None, args: Sequence[ast.Expr] = (), chunks: Chunks | None = None
    ) -> None:
        self.deadline = Deadline.after(60.0)
        self.chunks = chunks or Chunks(None, 1, self.deadline)
        self.symbols = SymbolScope()
        self.grid = StepGrid(start_ms=1_000_000, step_ms=1000, count=steps)
        self.annotations = Annotations(" " * 200)
        self.features = features or Features.all()
        self.exprs = tuple(args) or tuple(ast.NumberLiteral(value=0.0, span=ast.Span(10 * i, 10 * i + 1)) for i in range(12))

    def vector(self, *rows: Row, drop_name: Sequence[bool] | None = None) -> VectorValue:
        values = [[0.0 if value is None else value for value in row] for _, row in rows]
        present = [[value is not None for value in row] for _, row in rows]
        block = StepBlock(
            values=np.array(values, np.float64).reshape(len(rows), self.grid.count),
            present=np.array(present, np.bool_).reshape(len(rows), self.grid.count),
        )
        frame = LabelFrame.from_labels([labels(pairs) for pairs, _ in rows], self.symbols)
        return VectorValue(labels=frame, block=block, drop_name=None if drop_name is None else np.array(drop_name, np.bool_))

    def ranges(
        self, *series: tuple[dict[str, str], Sequence[tuple[int, float]]], range_ms: int, anchored: bool = False, smoothed: bool = False
    ) -> RangeValue:
        """Range vector of samples (ts_ms, value), windows ending at each step."""
        counts = [len(samples) for _, samples in series]
        block = SampleBlock(
            ts_ms=np.array([ts for _, samples in series for ts, _ in samples], np.int64),
            values=np.array([value for _, samples in series for _, value in samples], np.float64),
            offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        )
        ends: Int64 = self.grid.times_ms()
        frame = LabelFrame.from_labels([labels(pairs) for pairs, _ in series], self.symbols)
        return RangeValue(
            labels=frame,
            samples=block,
            grid=self.grid,
            ends_ms=ends,
            range_ms=range_ms,
            lookback_ms=300_000,
            anchored=anchored,
            smoothed=smoothed,
        )

    def run(self, function: str, *args: Value | float | str | list[float]) -> Value:
        context = CallContext(
            node=ast.Call(function=function, args=self.exprs),
            grid=self.grid,
            window=QueryWindow(start_ms=self.grid.start_ms, end_ms=self.grid.end_ms, step_ms=self.grid.step_ms),
            features=self.features,
            lookback_ms=300_000,
            annotations=self.annotations,
            symbols=self.symbols,
            chunks=self.chunks,
            deadline=self.deadline,
        )
        return EVALUATORS[function](context, [self._value(arg) for arg in args])

    def _value(self, arg: Value | float | str | list[float]) -> Value:
        match arg:
            case str():
                return StringValue(value=arg)
            case int() | float():
                return ScalarValue(values=np.full(self.grid.count, float(arg)))
            case list():
                return ScalarValue(values=np.array(arg, np.float64))
        return arg

    def rows(self, function: str, *args: Value | float | str | list[float]) -> list[tuple[Labels, list[float | None]]]:
        """The result, without series that are never present."""
        value = self.run(function, *args)
        assert isinstance(value, VectorValue)
        cells = [
            [v if p else None for v, p in zip(values, present, strict=True)]
            for values, present in zip(value.block.values.tolist(), value.block.present.tolist(), strict=True)
        ]
        return [(pairs, row) for pairs, row in zip(value.labels.all_labels(), cells, strict=True) if any(v is not None for v in row)]

    def values(self, function: str, *args: Value | float | str | list[float]) -> list[list[float | None]]:
        return [row for _, row in self.rows(function, *args)]

    def scalar(self, function: str, *args: Value | float | str | list[float]) -> list[float]:
        value = self.run(function, *args)
        assert isinstance(value, ScalarValue)
        result: list[float] = value.values.tolist()
        return result


def same(a: float | None, b: float | None) -> bool:
    """Equal, NaN to NaN, a zero's sign included."""
    if a is None or b is None:
        return a is b
    return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1.0, a) == math.copysign(1.0, b))
