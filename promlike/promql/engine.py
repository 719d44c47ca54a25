"""The query engine: parse, plan, fetch, execute, answer."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic, perf_counter

import numpy as np

from promlike.errors import BadRequest, QueryTimeout, SelectionChanged
from promlike.model.blocks import SampleBlock, StepGrid
from promlike.model.labels import METRIC_NAME
from promlike.promql import ast
from promlike.promql.annotations import Annotations
from promlike.promql.budget import SAMPLE_BYTES, Budget
from promlike.promql.check import value_type
from promlike.promql.context import Chunks, QueryWindow
from promlike.promql.execute import dispatch
from promlike.promql.execution import Execution
from promlike.promql.names import NAME_LABELS
from promlike.promql.options import Deadline, EngineOptions
from promlike.promql.outcome import instant_outcome, range_outcome
from promlike.promql.parser import parse
from promlike.promql.plan import plan_requests
from promlike.promql.result import QueryResult, QueryStats
from promlike.promql.sampling import count_samples
from promlike.promql.shape import Shape
from promlike.promql.timing import Timing
from promlike.storage.store import Queryable, Selection, SelectRequest, SeriesBlock

PARSED_AT_ONCE = 4096
"""Longer texts are parsed in a worker, so that they do not hold up the event loop."""

_TYPED = frozenset(NAME_LABELS) - {METRIC_NAME}

_IN_MESSAGES = {ast.ValueType.STRING: "string", ast.ValueType.MATRIX: "range vector"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Query:
    """A query on its way; seconds are those spent so far."""

    text: str
    expr: ast.Expr
    shape: Shape
    grid: StepGrid
    timing: Timing
    deadline: Deadline
    is_range: bool
    with_stats: bool
    requests: list[SelectRequest]
    parse_seconds: float
    queue_seconds: float = 0.0
    fetch_seconds: float = 0.0


class Engine:
    """Evaluates queries in the threads of `pool`, at most `options.max_concurrency` at a time; the others wait in order.

    Large blocks are split over threads of the engine's own, which `close` ends; the pool itself belongs to the caller.
    """

    def __init__(self, options: EngineOptions, pool: ThreadPoolExecutor) -> None:
        self._options = options
        self._pool = pool
        self._threads = os.cpu_count() or 1
        self._chunk_pool = ThreadPoolExecutor(self._threads, "promql-chunk") if self._threads > 1 else None
        self._running = asyncio.Semaphore(options.max_concurrency)

    def close(self) -> None:
        """End the engine's own threads, once no query runs any more; idempotent."""
        if self._chunk_pool is not None:
            self._chunk_pool.shutdown()

    async def instant(
        self,
        source: Queryable,
        query: str,
        time_ms: int,
        *,
        deadline: Deadline | None = None,
        lookback_ms: int | None = None,
        with_stats: bool = False,
        resolution_ms: int | None = None,
    ) -> QueryResult:
        """Evaluate at one time. `with_stats` counts the samples each step looks at, which costs time. `resolution_ms`: see `Timing`.

        Raises ParseError, QueryError, QueryTimeout, QueryCancelled, StorageError.
        """
        grid = StepGrid(start_ms=time_ms, step_ms=1, count=1)
        window = QueryWindow(start_ms=time_ms, end_ms=time_ms, step_ms=0)
        timing = self._timing(window, lookback_ms, resolution_ms)
        prepared = await self._prepare(query, grid, timing, deadline, with_stats, is_range=False)
        return await self._run(source, prepared)

    async def range(
        self,
        source: Queryable,
        query: str,
        grid: StepGrid,
        *,
        end_ms: int | None = None,
        deadline: Deadline | None = None,
        lookback_ms: int | None = None,
        with_stats: bool = False,
        resolution_ms: int | None = None,
    ) -> QueryResult:
        """Evaluate at every time of the grid; as `instant`, and BadRequest when the expression is a string or a range vector.

        `end_ms` is the end that was asked for, which need not be a step: `@ end()`, `end()` and `range()` speak of it.
        """
        window = QueryWindow(start_ms=grid.start_ms, end_ms=grid.end_ms if end_ms is None else end_ms, step_ms=grid.step_ms)
        timing = self._timing(window, lookback_ms, resolution_ms)
        prepared = await self._prepare(query, grid, timing, deadline, with_stats, is_range=True)
        return await self._run(source, prepared)

    def _timing(self, window: QueryWindow, lookback_ms: int | None, resolution_ms: int | None) -> Timing:
        return Timing(
            window=window,
            lookback_ms=self._options.lookback_ms if lookback_ms is None else lookback_ms,
            subquery_step_ms=self._options.default_subquery_step_ms,
            resolution_ms=resolution_ms,
        )

    async def _prepare(
        self,
        text: str,
        grid: StepGrid,
        timing: Timing,
        deadline: Deadline | None,
        with_stats: bool,
        *,
        is_range: bool,
    ) -> _Query:
        started = perf_counter()
        parsing = partial(parse, text, self._options.features)
        short = len(text) <= PARSED_AT_ONCE
        expr = parsing() if short else await asyncio.get_running_loop().run_in_executor(self._pool, parsing)
        found = value_type(expr)
        if is_range and found in _IN_MESSAGES:
            raise BadRequest(f'invalid expression type "{_IN_MESSAGES[found]}" for range query, must be Scalar or instant Vector')
        shape = Shape(expr)
        return _Query(
            text=text,
            expr=expr,
            shape=shape,
            grid=grid,
            timing=timing,
            deadline=deadline or Deadline.after(self._options.timeout_seconds),
            is_range=is_range,
            with_stats=with_stats,
            requests=plan_requests(expr, shape, grid, timing),
            parse_seconds=perf_counter() - started,
        )

    async def _run(self, source: Queryable, query: _Query) -> QueryResult:
        queued = perf_counter()
        await self._enter(query.deadline)
        with ExitStack() as place:
            place.callback(self._running.release)
            query = replace(query, queue_seconds=perf_counter() - queued)
            try:
                return await self._attempt(source, query, place, at_once=False)
            except SelectionChanged:
                return await self._attempt(source, query, place, at_once=True)

    async def _attempt(self, source: Queryable, query: _Query, place: ExitStack, *, at_once: bool) -> QueryResult:
        """Fetch and execute. `at_once`: with all samples fetched before, which a flush cannot take away any more."""
        started = perf_counter()
        selection = await self._fetch(source, query, at_once)
        query = replace(query, fetch_seconds=perf_counter() - started)
        working = asyncio.get_running_loop().run_in_executor(self._pool, self._execute, query, selection)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            query.deadline.cancel()
            working.add_done_callback(lambda future: future.cancelled() or future.exception())
            # A cancelled query keeps its place until its worker has noticed, so that the limit holds for what really runs.
            kept = place.pop_all()
            working.add_done_callback(lambda _: kept.close())
            raise

    async def _enter(self, deadline: Deadline) -> None:
        try:
            async with asyncio.timeout(deadline.at - monotonic()):
                await self._running.acquire()
        except TimeoutError as error:
            raise QueryTimeout("query timed out in query queue") from error

    async def _fetch(self, source: Queryable, query: _Query, at_once: bool) -> Selection:
        requests = [replace(request, at_once=True) for request in query.requests] if at_once else query.requests
        try:
            async with asyncio.timeout(query.deadline.at - monotonic()):
                return await source.select(requests, max_samples=self._options.max_samples)
        except TimeoutError as error:
            raise QueryTimeout("query timed out in expression evaluation") from error

    def _execute(self, query: _Query, selection: Selection) -> QueryResult:
        """Evaluate, in a worker thread."""
        started = perf_counter()
        run = self._execution(query, selection)
        rows = [block.tier.rows for block in selection.blocks if block.tier is not None]
        total = sum(block.samples.count for block in selection.blocks) + sum(part.count for part in rows)
        held = sum(block.samples.count for block in selection.blocks if isinstance(block.samples, SampleBlock))
        run.budget.hold(total, held * SAMPLE_BYTES + sum(part.nbytes for part in rows))
        # Entered here because it does not reach a thread from outside.
        with np.errstate(all="ignore"):
            value = run.evaluate(query.expr, query.grid)
            outcome = range_outcome(run, value, query.grid) if query.is_range else instant_outcome(value, query.grid.start_ms)
        per_step = count_samples(run, query.expr, query.grid) if query.with_stats else ()
        stats = QueryStats(
            parse_seconds=query.parse_seconds,
            queue_seconds=query.queue_seconds,
            fetch_seconds=query.fetch_seconds,
            eval_seconds=perf_counter() - started,
            total_samples=sum(per_step) if query.with_stats else total,
            peak_samples=run.budget.peak,
            samples_per_step=per_step,
            steps=query.grid.count,
        )
        return QueryResult(
            value=outcome,
            warnings=selection.warnings + run.annotations.warnings,
            infos=run.annotations.infos,
            stats=stats,
            repeatable=run.repeatable and not any(_may_differ_by_range(block) for block in selection.blocks),
        )

    def _execution(self, query: _Query, selection: Selection) -> Execution:
        return Execution(
            dispatch=dispatch,
            shape=query.shape,
            timing=query.timing,
            features=self._options.features,
            annotations=Annotations(query.text),
            symbols=selection.symbols,
            chunks=Chunks(self._chunk_pool, self._threads, query.deadline),
            deadline=query.deadline,
            budget=Budget(max_samples=self._options.max_samples, max_bytes=self._options.max_bytes),
            fetched=dict(zip(query.requests, selection.blocks, strict=True)),
        )


def _may_differ_by_range(block: SeriesBlock) -> bool:
    """Types and units go with the name, so series that differ in them alone become one; a tier is chosen by what is asked for in all."""
    return block.tier is not None or not _TYPED.isdisjoint(block.labels.names)
