"""Which times the parts of a query look at: @, offset, ranges, lookback, the steps of subqueries. Plan and execution both ask here."""

from dataclasses import dataclass

import numpy as np

from promlike.model.blocks import Int64, StepGrid
from promlike.model.matchers import Matcher, MatchOp
from promlike.promql import ast
from promlike.promql.context import QueryWindow
from promlike.promql.durations import resolve
from promlike.storage.store import SelectRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The settings that times depend on."""

    window: QueryWindow
    lookback_ms: int
    subquery_step_ms: int

    def length_ms(self, duration: ast.DurationExpr) -> int:
        """Milliseconds of a range or step, which must be positive."""
        return self._resolve(duration, positive=True)

    def offset_ms(self, duration: ast.DurationExpr | None) -> int:
        return 0 if duration is None else self._resolve(duration, positive=False)

    def _resolve(self, duration: ast.DurationExpr, *, positive: bool) -> int:
        window = self.window
        return resolve(duration, start_ms=window.start_ms, end_ms=window.end_ms, step_ms=window.step_ms, positive=positive)

    def at_ms(self, at: ast.At | None) -> int | None:
        if at is None:
            return None
        return {ast.AtKind.TIME: at.time_ms, ast.AtKind.START: self.window.start_ms, ast.AtKind.END: self.window.end_ms}[at.kind]

    def shift(self, node: ast.VectorSelector | ast.Subquery, grid: StepGrid) -> StepGrid:
        """The times a selector or subquery looks at when it is evaluated at `grid`: under @ a single one."""
        at = self.at_ms(node.at)
        offset = self.offset_ms(node.offset)
        if at is not None:
            return StepGrid(start_ms=at - offset, step_ms=grid.step_ms, count=1)
        return StepGrid(start_ms=grid.start_ms - offset, step_ms=grid.step_ms, count=grid.count)

    def ends_ms(self, node: ast.VectorSelector | ast.Subquery, grid: StepGrid) -> Int64:
        """int64[T]: for each evaluation time of `grid` the time that is looked at."""
        shifted = self.shift(node, grid)
        return shifted.times_ms() if shifted.count == grid.count else np.full(grid.count, shifted.start_ms, np.int64)

    def request(self, selector: ast.VectorSelector, range_ms: int | None, grid: StepGrid) -> SelectRequest:
        """The samples a selector (with `range_ms`: a range selector) needs when it is evaluated at `grid`."""
        shifted = self.shift(selector, grid)
        start, end = shifted.start_ms, shifted.end_ms
        if range_ms is None:
            start -= self.lookback_ms
        else:
            start -= range_ms + (self.lookback_ms if selector.anchored or selector.smoothed else 0)
        if selector.smoothed:
            end += self.lookback_ms
        picked = shifted if range_ms is None and not selector.smoothed else None
        return SelectRequest(matchers=matchers(selector), start_ms=start, end_ms=end, instants=picked)

    def subquery_steps(self, node: ast.Subquery, grid: StepGrid) -> StepGrid:
        """The times the inner expression is evaluated at: multiples of the step that lie in any window. The count may be 0."""
        step = self.subquery_step_ms if node.step is None else self.length_ms(node.step)
        shifted = self.shift(node, grid)
        first = ((shifted.start_ms - self.length_ms(node.range)) // step + 1) * step
        return StepGrid(start_ms=first, step_ms=step, count=max(0, (shifted.end_ms - first) // step + 1))


def matchers(selector: ast.VectorSelector) -> tuple[Matcher, ...]:
    """All conditions of a selector, the one on the metric name included."""
    if selector.name is None:
        return selector.matchers
    return (Matcher("__name__", MatchOp.EQUAL, selector.name), *selector.matchers)
