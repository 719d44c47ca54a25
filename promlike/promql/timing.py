"""Which times the parts of a query look at: @, offset, ranges, lookback, the steps of subqueries. Plan and execution both ask here."""

from dataclasses import dataclass

import numpy as np

from promlike.model.blocks import Int64, StepGrid
from promlike.model.matchers import Matcher, MatchOp
from promlike.model.tiers import NO_COLUMNS, RESOLUTION_NAMES, TierColumn, ceil_ms, floor_ms
from promlike.promql import ast
from promlike.promql.context import QueryWindow
from promlike.promql.durations import resolve
from promlike.storage.access import Fit, SelectRequest, TierOption

CLOSE = 12
"""A tier is close when its windows, or the steps between instants, are so many times its resolution: they move by at most a twelfth."""

OF_INSTANTS = TierColumn.LAST | TierColumn.LAST_TIME | TierColumn.STALE
"""What instant selectors need of a tier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The settings that times depend on. `resolution_ms`: the only tier that may be read; 0: none, None: any, where it pays."""

    window: QueryWindow
    lookback_ms: int
    subquery_step_ms: int
    resolution_ms: int | None = None

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

    def request(
        self, selector: ast.VectorSelector, range_ms: int | None, grid: StepGrid, columns: TierColumn = NO_COLUMNS
    ) -> SelectRequest:
        """The samples a selector (with `range_ms`: a range selector) needs when it is evaluated at `grid`.

        `columns`: what the function around a range selector would need of a tier instead.
        """
        shifted = self.shift(selector, grid)
        start, end = shifted.start_ms, shifted.end_ms
        if range_ms is None:
            start -= self.lookback_ms
        else:
            start -= range_ms + (self.lookback_ms if selector.anchored or selector.smoothed else 0)
        if selector.smoothed:
            end += self.lookback_ms
        picked = shifted if range_ms is None and not selector.smoothed else None
        columns = OF_INSTANTS if range_ms is None else columns
        tiers = self._tiers(selector, range_ms, shifted, columns) if columns else ()
        return SelectRequest(matchers=matchers(selector), start_ms=start, end_ms=end, instants=picked, tiers=tiers)

    def _tiers(self, selector: ast.VectorSelector, range_ms: int | None, times: StepGrid, columns: TierColumn) -> tuple[TierOption, ...]:
        """The tiers that have something to say of a selector that looks at these times."""
        if self.resolution_ms == 0 or selector.anchored or selector.smoothed:
            return ()
        allowed = RESOLUTION_NAMES if self.resolution_ms is None else (self.resolution_ms,)
        return tuple(
            TierOption(
                resolution_ms=resolution,
                start_ms=floor_ms(times.start_ms, resolution) - ceil_ms(self.lookback_ms if range_ms is None else range_ms, resolution),
                end_ms=floor_ms(times.end_ms, resolution),
                columns=columns,
                fit=_fit(times, range_ms, resolution, pinned=selector.at is not None),
                forced=self.resolution_ms is not None,
            )
            for resolution in allowed
        )

    def subquery_steps(self, node: ast.Subquery, grid: StepGrid) -> StepGrid:
        """The times the inner expression is evaluated at: multiples of the step that lie in any window. The count may be 0."""
        step = self.subquery_step_ms if node.step is None else self.length_ms(node.step)
        shifted = self.shift(node, grid)
        first = ((shifted.start_ms - self.length_ms(node.range)) // step + 1) * step
        return StepGrid(start_ms=first, step_ms=step, count=max(0, (shifted.end_ms - first) // step + 1))


def _fit(times: StepGrid, range_ms: int | None, resolution_ms: int, *, pinned: bool) -> Fit:
    """How well a tier answers windows of this length (None: instants) that end at these times. `pinned`: by @."""
    spacing_ms = times.step_ms if times.count > 1 else 0
    if not (times.start_ms % resolution_ms or spacing_ms % resolution_ms or (range_ms or 0) % resolution_ms):
        return Fit.EXACT
    if pinned:
        return Fit.ROUGH
    if (times.count == 1 or resolution_ms <= spacing_ms) and CLOSE * resolution_ms <= (spacing_ms if range_ms is None else range_ms):
        return Fit.CLOSE
    return Fit.ROUGH


def matchers(selector: ast.VectorSelector) -> tuple[Matcher, ...]:
    """All conditions of a selector, the one on the metric name included."""
    if selector.name is None:
        return selector.matchers
    return (Matcher("__name__", MatchOp.EQUAL, selector.name), *selector.matchers)
