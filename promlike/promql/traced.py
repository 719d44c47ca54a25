"""An execution that notes what each node of the tree came to, and how long that took."""

from dataclasses import dataclass

import numpy as np

from promlike.model.blocks import StepGrid
from promlike.model.tiers import RESOLUTION_NAMES
from promlike.model.trace import Trace
from promlike.promql import ast
from promlike.promql.execution import ONCE_FOR_ALL_STEPS, Execution
from promlike.promql.shape import strip_parens
from promlike.promql.vector import RangeValue, ScalarValue, TierValue, Value, VectorValue


@dataclass(slots=True, kw_only=True, eq=False)
class TracedExecution(Execution):
    """`text` is the query that the spans of its nodes speak of; what is evaluated next is a step within `trace`."""

    text: str
    trace: Trace

    def evaluate(self, expr: ast.Expr, grid: StepGrid) -> Value:
        expr = strip_parens(expr)
        outer = self.trace
        with outer.child("%s", self.text[expr.span.start : expr.span.end]) as step:
            if (self.shape.number(expr), grid) in self._memory:
                step.add("as evaluated before")
            elif grid.count > 1 and self.shape.is_invariant(expr) and not isinstance(expr, ONCE_FOR_ALL_STEPS):
                step.add("the same at all %d steps", grid.count)
            self.trace = step
            try:
                value = Execution.evaluate(self, expr, grid)
            finally:
                self.trace = outer
            if step.is_on:
                _describe(step, value)
        return value


def _describe(step: Trace, value: Value) -> None:
    match value:
        case VectorValue():
            series, steps = value.block.values.shape
            step.add("series=%d, steps=%d, values=%d", series, steps, np.count_nonzero(value.block.present))
        case RangeValue():
            step.add("series=%d, steps=%d, samples=%d", value.samples.series, len(value.ends_ms), value.samples.count)
        case TierValue():
            name = RESOLUTION_NAMES[value.tier.resolution_ms]
            step.add("rollup=%s, series=%d, steps=%d, rows=%d", name, value.tier.series, len(value.ends_ms), value.tier.count)
        case ScalarValue():
            step.add("numbers=%d", len(value.values))
        case _:
            step.add("a text")
