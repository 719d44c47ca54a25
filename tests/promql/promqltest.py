"""Runs tests written in the language of Prometheus's engine tests (see `language`).

`run_test` raises `TestFailure` at the first evaluation that does not give what is expected. As in Prometheus's runner, instant queries are
also run as range queries around their time, and with every selector pinned by @ at other times; both must give the same.
"""

import math
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from promlike.errors import PromlikeError
from promlike.model.blocks import StepGrid
from promlike.model.labels import Labels, format_labels
from promlike.promql.engine import Engine
from promlike.promql.names import label_order
from promlike.promql.options import EngineOptions, Features
from promlike.promql.result import Matrix, QueryResult, Scalar, String, Value, Vector
from promlike.storage.access import Queryable
from tests.promql.language import Clear, Eval, Grid, Load, Sequence, parse_test
from tests.promql.memory import MemorySource
from tests.promql.pinned import pinned

EPSILON = 1e-6
SMALLEST_NORMAL = 2.2250738585072014e-308
MINUTE_MS = 60_000


class TestFailure(AssertionError):
    """An evaluation did not give what the test expects."""

    __test__ = False


def experimental_engine(pool: ThreadPoolExecutor) -> Engine:
    """An engine with everything switched on, as Prometheus's own tests use it."""
    return Engine(EngineOptions(features=Features.all()), pool)


class Source(Queryable, Protocol):
    """Where a test keeps what it loads."""

    async def load(self, labels: Labels, points: list[tuple[int, float]], starts: list[tuple[int, int]]) -> None:
        """Take samples (ms, value), or start timestamps (ms of the sample, ms of the start)."""
        ...


async def in_memory() -> Source:
    """A new MemorySource."""
    return MemorySource()


async def run_test(
    text: str,
    engine: Engine,
    without_annotations: frozenset[str] = frozenset(),
    new_source: Callable[[], Awaitable[Source]] = in_memory,
) -> int:
    """Run every command; return how many evaluations there were. Raise TestFailure or TestSyntaxError.

    `without_annotations` are queries whose annotations are not looked at; `new_source` opens what `load` fills, at first and after `clear`.
    """
    source = await new_source()
    count = 0
    for command in parse_test(text):
        match command:
            case Load():
                await _load(source, command)
            case Clear():
                source = await new_source()
            case Eval():
                count += 1
                if command.query in without_annotations:
                    command.expectations = command.expects("fail") + command.expects("ordered")
                await _Evaluation(command, engine, source).run()
    return count


async def _load(source: Source, command: Load) -> None:
    for series in command.series:
        times = [at * command.interval_ms for at in range(len(series.values))]
        known = [(ts, value) for ts, value in zip(times, series.values, strict=True) if value is not None]
        if series.starts:
            await source.load(series.labels, [], [(ts, ts + int(value)) for ts, value in known])
        else:
            await source.load(series.labels, known, [])


@dataclass(frozen=True, slots=True)
class _Evaluation:
    command: Eval
    engine: Engine
    source: Source

    async def run(self) -> None:
        command = self.command
        try:
            result = await self._evaluate(command.query, command.at_ms)
        except PromlikeError as error:
            self._check_failure(str(error))
            return
        if command.expects("fail"):
            raise self._failure("expected an error, got none")
        self._check_annotations(result)
        self._compare(result.value, command.at_ms)
        if command.grid is None and command.string is None and command.range_vector is None:
            await self._as_range(command.query, command.at_ms)
            await self._at_other_times()

    async def _evaluate(self, query: str, at_ms: int) -> QueryResult:
        grid = self.command.grid
        if grid is None:
            return await self.engine.instant(self.source, query, at_ms)
        return await self.engine.range(self.source, query, _steps(grid))

    async def _as_range(self, query: str, at_ms: int) -> None:
        """The middle of three steps must be what the instant query gave."""
        grid = StepGrid(start_ms=at_ms - MINUTE_MS, step_ms=MINUTE_MS, count=3)
        try:
            value = (await self.engine.range(self.source, query, grid)).value
        except PromlikeError as error:
            raise self._failure(f"fails as a range query: {error}") from error
        if self.command.expects("ordered"):
            return
        if not isinstance(value, Matrix):
            raise self._failure(f"a range query gave a {type(value).__name__}")
        if (label_order(value.labels) != np.arange(len(value.labels))).any():
            raise self._failure("a range query gave series that are not sorted")
        found = [(labels, points[at_ms]) for labels, points in _points(value) if at_ms in points]
        if self.command.scalar is not None:
            self._compare(Scalar(ts_ms=at_ms, value=found[0][1]), at_ms)
        else:
            self._compare_samples(found, "as a range query: ")

    async def _at_other_times(self) -> None:
        """With every selector pinned to the time of evaluation the same must come out whenever it is evaluated."""
        query = pinned(self.command.query, self.command.at_ms)
        if query is None:
            return
        at_ms = self.command.at_ms
        for other in (at_ms, 0, at_ms // 5, at_ms * 10):
            try:
                result = await self.engine.instant(self.source, query, other)
                self._compare(result.value, other)
                await self._as_range(query, other)
            except PromlikeError as error:
                raise self._failure(f"{query} fails at {other} ms: {error}") from error
            except TestFailure as failure:
                raise self._failure(f"{query} at {other} ms: {failure}") from failure

    def _failure(self, message: str) -> TestFailure:
        return TestFailure(f"line {self.command.line}: {self.command.query}: {message}")

    def _check_failure(self, text: str) -> None:
        expected = self.command.expects("fail")
        if not expected:
            raise self._failure(f"unexpected error: {text}")
        for expectation in expected:
            if not expectation.matches(text):
                raise self._failure(f"expected the error {expectation.text!r}, got {text!r}")

    def _check_annotations(self, result: QueryResult) -> None:
        for kind, found in (("warn", result.warnings), ("info", result.infos)):
            if self.command.expects(f"no_{kind}") and found:
                raise self._failure(f"unexpected {kind}: {found}")
            expected = self.command.expects(kind)
            for expectation in expected:
                if not any(expectation.matches(text) for text in found):
                    raise self._failure(f"expected {kind} {expectation.text or 'annotations'!r}, got {found}")
            for text in found if expected else ():
                if not any(expectation.matches(text) for expectation in expected):
                    raise self._failure(f"unexpected {kind} {text!r}")

    def _compare(self, value: Value, at_ms: int) -> None:
        match value:
            case Scalar():
                if self.command.scalar is None or not same(value.value, self.command.scalar):
                    raise self._failure(f"expected {self._wanted()}, got the scalar {value.value}")
            case String():
                if value.value != self.command.string:
                    raise self._failure(f"expected {self._wanted()}, got the string {value.value!r}")
            case Vector():
                if (value.ts_ms != at_ms).any():
                    raise self._failure(f"samples at {value.ts_ms}, not {at_ms}")
                self._compare_samples(list(zip(value.labels.all_labels(), value.values.tolist(), strict=True)), "")
            case Matrix():
                grid = self.command.grid or self.command.range_vector
                if grid is None:
                    raise self._failure(f"expected {self._wanted()}, got a range vector")
                self._compare_matrix(value, grid)

    def _wanted(self) -> str:
        command = self.command
        if command.scalar is not None:
            return f"the scalar {command.scalar}"
        return f"the string {command.string!r}" if command.string is not None else f"{len(command.series)} series"

    def _compare_samples(self, found: list[tuple[Labels, float]], how: str) -> None:
        command = self.command
        if command.scalar is not None or command.string is not None or command.range_vector is not None:
            raise self._failure(f"{how}expected {self._wanted()}, got an instant vector")
        wanted: list[tuple[Labels, float]] = []
        for labels, values in command.series:
            if len(values) != 1 or values[0] is None:
                raise self._failure("an instant query has one value a series")
            wanted.append((labels, values[0]))
        self._compare_sets({labels for labels, _ in found}, {labels for labels, _ in wanted}, len(found), how)
        if command.expects("ordered") and [labels for labels, _ in found] != [labels for labels, _ in wanted]:
            raise self._failure(f"{how}expected the order {_texts(wanted)}, got {_texts(found)}")
        values_of = dict(wanted)
        for labels, value in found:
            if not same(value, values_of[labels]):
                raise self._failure(f"{how}expected {values_of[labels]} for {format_labels(labels)}, got {value}")

    def _compare_matrix(self, value: Matrix, grid: Grid) -> None:
        times = range(grid.start_ms, grid.end_ms + 1, grid.step_ms)
        found = _points(value)
        wanted = {labels: _at_times(values, times) for labels, values in self.command.series}
        for labels, values in self.command.series:
            if len(values) > len(times):
                raise self._failure(f"expected more values than steps for {format_labels(labels)}")
        wanted = {labels: points for labels, points in wanted.items() if points}
        self._compare_sets({labels for labels, _ in found}, set(wanted), len(found), "")
        for labels, points in found:
            if points.keys() != wanted[labels].keys():
                raise self._failure(f"expected {format_labels(labels)} at {sorted(wanted[labels])}, got {sorted(points)}")
            for ts, actual in points.items():
                if not same(actual, wanted[labels][ts]):
                    raise self._failure(f"expected {wanted[labels][ts]} for {format_labels(labels)} at {ts}, got {actual}")

    def _compare_sets(self, found: set[Labels], wanted: set[Labels], count: int, how: str) -> None:
        missing, extra = (sorted(format_labels(labels) for labels in side) for side in (wanted - found, found - wanted))
        if missing or extra:
            raise self._failure(f"{how}missing series {missing}, unexpected series {extra}")
        if len(found) != count:
            raise self._failure(f"{how}a series occurs twice")


def _points(matrix: Matrix) -> list[tuple[Labels, dict[int, float]]]:
    samples = matrix.samples
    points = list(zip(samples.ts_ms.tolist(), samples.values.tolist(), strict=True))
    ends = samples.offsets.tolist()
    return [(labels, dict(points[ends[row] : ends[row + 1]])) for row, labels in enumerate(matrix.labels.all_labels())]


def _at_times(values: Sequence, times: range) -> dict[int, float]:
    return {ts: value for ts, value in zip(times, values, strict=False) if value is not None}


def _texts(samples: list[tuple[Labels, float]]) -> list[str]:
    return [format_labels(labels) for labels, _ in samples]


def _steps(grid: Grid) -> StepGrid:
    return StepGrid(start_ms=grid.start_ms, step_ms=grid.step_ms, count=(grid.end_ms - grid.start_ms) // grid.step_ms + 1)


def same(left: float, right: float) -> bool:
    """Equal but for rounding, by Prometheus's own measure; NaN equals NaN."""
    if math.isnan(left) or math.isnan(right):
        return math.isnan(left) and math.isnan(right)
    if left == right:
        return True
    total, difference = abs(left) + abs(right), abs(left - right)
    if left == 0 or right == 0 or total < SMALLEST_NORMAL:
        return difference < EPSILON * SMALLEST_NORMAL
    return difference / min(total, sys.float_info.max) < EPSILON
