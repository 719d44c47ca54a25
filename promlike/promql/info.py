"""`info(v, {…})`: series get the labels of the info series that belong to the same target. Axis letters: S series, T steps, I info series.

Info series belong to a series when both have the same `instance` and `job`. At each step the one sampled last counts, one a metric name.
Because the info series of a target change over time, a series can come out as several, each with the labels of its time.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from promlike.errors import QueryError
from promlike.model.blocks import Bool, Float64, Int32, Int64, StepBlock, StepGrid
from promlike.model.frame import LabelFrame, match_rows
from promlike.model.labels import METRIC_NAME, format_labels
from promlike.model.matchers import Matcher, MatchOp
from promlike.promql import ast
from promlike.promql.execution import Execution
from promlike.promql.names import NAME_LABELS, unique
from promlike.promql.selectors import latest
from promlike.promql.shape import first_selector_path, strip_parens
from promlike.promql.timing import Timing, matchers
from promlike.promql.vector import VectorValue
from promlike.storage.access import SelectRequest

IDENTIFYING = ("instance", "job")
DEFAULT_METRIC = Matcher(METRIC_NAME, MatchOp.EQUAL, "target_info")
ANY_INFO_METRIC = Matcher(METRIC_NAME, MatchOp.REGEX, ".+_info")


def info_matchers(node: ast.Call) -> tuple[list[Matcher], list[Matcher]]:
    """The conditions on the info metrics' names, and those on their labels."""
    given: tuple[Matcher, ...] = ()
    if len(node.args) > 1:
        selector = strip_parens(node.args[1])
        if not isinstance(selector, ast.VectorSelector):
            raise TypeError("the second argument of info() is not a selector")
        given = matchers(selector)
    names = [matcher for matcher in given if matcher.name == METRIC_NAME]
    if not names:
        names = [DEFAULT_METRIC]
    elif all(matcher.op in (MatchOp.NOT_EQUAL, MatchOp.NOT_REGEX) for matcher in names):
        names.append(ANY_INFO_METRIC)
    return names, [matcher for matcher in given if matcher.name != METRIC_NAME]


def info_times(timing: Timing, node: ast.Call, grid: StepGrid) -> Int64:
    """int64[T]: the times info series are looked up at: those the operand's first selector looks at, subqueries around it included."""
    times = grid.times_ms()
    for part in first_selector_path(node.args[0]):
        at = timing.at_ms(part.at)
        times = (times if at is None else np.full(grid.count, at, np.int64)) - timing.offset_ms(part.offset)
    return times


def info_request(timing: Timing, node: ast.Call, grid: StepGrid) -> SelectRequest:
    names, data = info_matchers(node)
    times = info_times(timing, node, grid)
    return SelectRequest(matchers=(*names, *data), start_ms=int(times[0]) - timing.lookback_ms, end_ms=int(times[-1]))


def info(run: Execution, node: ast.Call, grid: StepGrid) -> VectorValue:
    base = run.vector(node.args[0], grid)
    names, data = info_matchers(node)
    series = run.fetched[info_request(run.timing, node, grid)]
    samples = series.samples.whole()
    times = latest(run, samples, samples.ts_ms.astype(np.float64), info_times(run.timing, node, grid))
    targets, target_of_info, count = _targets(base.labels, series.labels)
    valid = _newest(series.labels, times, target_of_info)
    plain = _are_info_series(base.labels, names)
    targets = np.where(plain, -1, targets)
    may_be_bare = all(matcher.matches_empty for matcher in data)
    wanted = [name for name in series.labels.names if name not in NAME_LABELS]
    if data:
        wanted = [name for name in wanted if name in {matcher.name for matcher in data}]
    parts = list(_Join(base=base, infos=series.labels.keep(wanted), valid=valid, targets=targets).parts(target_of_info, count, may_be_bare))
    parts.append(_Part(rows=np.nonzero(plain)[0], mask=None, codes={}))
    return _assemble(base, parts)


def _targets(base: LabelFrame, infos: LabelFrame) -> tuple[Int32, Int32, int]:
    """The target of each series and info series, int32[S] and int32[I], and how many; series without target share one of their own."""
    ours, theirs, count = match_rows(base.keep(IDENTIFYING), infos.keep(IDENTIFYING))
    nameless = ~np.any([base.column(name) != 0 for name in IDENTIFYING], axis=0)
    return np.where(nameless, np.int32(count), ours).astype(np.int32), theirs, count + 1


def _newest(labels: LabelFrame, times: StepBlock, targets: Int32) -> Bool:
    """bool[I,T]: is the info series there, and the one sampled last among those of its name and target? Raise QueryError when two are."""
    keys = LabelFrame(
        names=("metric", "target"),
        codes=np.ascontiguousarray(np.column_stack((labels.column(METRIC_NAME), targets))),
        symbols=labels.symbols,
    )
    slots, first = keys.groups()
    sampled: Float64 = np.where(times.present, times.values, -np.inf)
    best = np.full((len(first), sampled.shape[1]), -np.inf)
    np.maximum.at(best, slots, sampled)
    valid: Bool = times.present & (sampled == best[slots])
    taken = np.zeros(best.shape, np.int64)
    np.add.at(taken, slots, valid)
    if (taken > 1).any():
        slot, step = (int(axis[0]) for axis in np.nonzero(taken > 1))
        one, other = (int(row) for row in np.nonzero((slots == slot) & valid[:, step])[0][:2])
        at = int(sampled[one, step])
        texts = [format_labels(labels.labels_of(row)) for row in (one, other)]
        raise QueryError(f"found duplicate series for info metric: existing {texts[0]} @ {at}, new {texts[1]} @ {at}")
    return valid


def _are_info_series(labels: LabelFrame, names: list[Matcher]) -> Bool:
    """bool[S]: is the series itself one of the info metrics?"""
    codes, inverse = np.unique(labels.column(METRIC_NAME), return_inverse=True)
    matched = [all(matcher.matches(labels.symbols.text(int(code))) for matcher in names) for code in codes]
    return np.array(matched, np.bool_)[inverse] if len(codes) else np.zeros(0, np.bool_)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """Series `rows int64[R]` at the steps of `mask bool[T]` (None: all), with the values `codes` of the labels they get."""

    rows: Int64
    mask: Bool | None
    codes: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Join:
    """Series and info series side by side: `valid bool[I,T]`, `targets int32[S]` (-1: not to be joined)."""

    base: VectorValue
    infos: LabelFrame
    valid: Bool
    targets: Int32

    def parts(self, target_of_info: Int32, count: int, may_be_bare: bool) -> Iterator[_Part]:
        """A Python loop over targets: 15 µs each, and a query joins as many as it has scrape targets."""
        order, info_order = (np.argsort(axis, kind="stable") for axis in (self.targets, target_of_info))
        bounds = np.searchsorted(self.targets[order], np.arange(count + 1))
        info_bounds = np.searchsorted(target_of_info[info_order], np.arange(count + 1))
        for target in np.unique(self.targets[self.targets >= 0]).tolist():
            rows = order[bounds[target] : bounds[target + 1]]
            members = info_order[info_bounds[target] : info_bounds[target + 1]] if target < count else info_order[:0]
            states, state_of_step = np.unique(self.valid[members], axis=1, return_inverse=True)
            for state in range(states.shape[1]):
                chosen = members[states[:, state]]
                if len(chosen) or may_be_bare:
                    mask = None if states.shape[1] == 1 else state_of_step.reshape(-1) == state
                    yield _Part(rows=rows, mask=mask, codes=self._codes(chosen, rows))

    def _codes(self, chosen: Int64, rows: Int64) -> dict[str, int]:
        """The labels that info series `chosen` give to `rows`. Raise QueryError when they contradict each other."""
        found: dict[str, int] = {}
        for column, name in enumerate(self.infos.names):
            values = set(self.infos.codes[chosen, column].tolist()) - {0}
            if len(values) > 1 and (self.base.labels.column(name)[rows] == 0).any():
                raise QueryError(f"conflicting label: {name}")
            if values:
                found[name] = values.pop()
        return found


def _assemble(base: VectorValue, parts: list[_Part]) -> VectorValue:
    rows = np.concatenate([part.rows for part in parts])
    present = base.block.present[rows]
    labels = base.labels.take(rows)
    added = sorted({name for part in parts for name in part.codes})
    columns = {name: labels.column(name) for name in added}
    at = 0
    for part in parts:
        end = at + len(part.rows)
        if part.mask is not None:
            present[at:end] &= part.mask
        for name, code in part.codes.items():
            column = columns[name][at:end]
            column[column == 0] = code
        at = end
    for name, codes in columns.items():
        labels = labels.with_column(name, codes)
    block = StepBlock(values=base.block.values[rows], present=present)
    return unique(VectorValue(labels=labels, block=block, drop_name=None if base.drop_name is None else base.drop_name[rows]))
