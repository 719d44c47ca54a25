"""The query engine: parse, plan, fetch, execute, answer."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic, perf_counter
from typing import TypeVar

import numpy as np

from promlike.errors import BadRequest, MemoryInUse, QueryTimeout, SelectionChanged
from promlike.model.blocks import SampleBlock, StepGrid
from promlike.model.labels import METRIC_NAME
from promlike.model.threads import worker_pool
from promlike.model.trace import OFF, Trace
from promlike.promql import ast
from promlike.promql.admission import Admission
from promlike.promql.annotations import Annotations
from promlike.promql.budget import SAMPLE_BYTES, Budget, MemoryPool
from promlike.promql.check import value_type
from promlike.promql.context import Chunks, QueryWindow
from promlike.promql.execute import dispatch
from promlike.promql.execution import Execution
from promlike.promql.names import NAME_LABELS
from promlike.promql.options import Deadline, EngineOptions
from promlike.promql.outcome import instant_outcome, range_outcome
from promlike.promql.parser import parse
from promlike.promql.plan import plan_requests
from promlike.promql.result import QueryResult, QueryStats, answer_bytes
from promlike.promql.sampling import count_samples
from promlike.promql.shape import Shape, has_subquery
from promlike.promql.timing import Timing
from promlike.promql.traced import TracedExecution
from promlike.storage.access import Immediate, Queryable, Selection, SelectRequest, SeriesBlock

PARSED_AT_ONCE = 4096
"""Longer texts are parsed in a worker, so that they do not hold up the event loop."""

_TYPED = frozenset(NAME_LABELS) - {METRIC_NAME}

T = TypeVar("T")

SUBQUERY_STEP_MS = 60_000
"""Of subqueries that state none, unless the engine is told otherwise."""

LIGHT_CELLS = 500_000
"""With at most so many series times steps, a query whose samples are had on the spot is light: a few milliseconds on one core."""
LIGHT_THREADS = 2

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
    is_nested: bool
    trace: Trace
    parse_seconds: float
    queue_seconds: float = 0.0
    fetch_seconds: float = 0.0


class Engine:
    """Evaluates queries in the threads of `pool`, at most `options.max_concurrency` at a time; the others wait in order.

    Light queries go by that line, in threads of the engine's own, so that they do not wait for heavy ones. Large blocks are split over
    threads of the engine's own, too. `close` ends both; the pool itself belongs to the caller.
    """

    def __init__(self, options: EngineOptions, pool: ThreadPoolExecutor) -> None:
        self._options = options
        self._pool = pool
        self._threads = os.cpu_count() or 1
        self._chunk_pool = worker_pool(self._threads, "promql-chunk") if self._threads > 1 else None
        self._light_pool = ThreadPoolExecutor(LIGHT_THREADS, "promql-light")
        self.subquery_step_ms = SUBQUERY_STEP_MS
        """Of subqueries that state none. It may be set at any time, and is that of the queries that begin after."""
        self.memory = MemoryPool(options.max_total_bytes)
        """What all queries hold together."""
        self._heavy = Admission(max_concurrency=options.max_concurrency, max_queued=options.max_queued, pool=self.memory)
        self._light = Admission(max_concurrency=LIGHT_THREADS, max_queued=options.max_queued, pool=self.memory)

    def new_budget(self) -> Budget:
        """What one query may load and hold, of what all may together."""
        return Budget(max_samples=self._options.max_samples, max_bytes=self._options.max_bytes, pool=self.memory)

    def close(self) -> None:
        """End the engine's own threads, once no query runs any more; idempotent."""
        self._light_pool.shutdown()
        if self._chunk_pool is not None:
            self._chunk_pool.shutdown()

    async def in_thread(self, work: Callable[[], T], cells: int) -> T:
        """What the work comes to, done in a thread among light or heavy queries, by how many cells or samples it moves."""
        return await asyncio.get_running_loop().run_in_executor(self._light_pool if cells <= LIGHT_CELLS else self._pool, work)

    @property
    def queued(self) -> int:
        """Queries that wait for their turn."""
        return self._heavy.queued + self._light.queued

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
        trace: Trace = OFF,
    ) -> QueryResult:
        """Evaluate at one time. `with_stats` counts the samples each step looks at, which costs time. `resolution_ms`: see `Timing`.
        `trace` gets a step for everything that is done.

        Raises ParseError, QueryError, QueryTimeout, QueryCancelled, StorageError.
        """
        grid = StepGrid(start_ms=time_ms, step_ms=1, count=1)
        window = QueryWindow(start_ms=time_ms, end_ms=time_ms, step_ms=0)
        timing = self._timing(window, lookback_ms, resolution_ms)
        prepared = await self._prepare(query, grid, timing, deadline, with_stats, trace, is_range=False)
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
        subquery_step_ms: int = 0,
        trace: Trace = OFF,
    ) -> QueryResult:
        """Evaluate at every time of the grid; as `instant`, and BadRequest when the expression is a string or a range vector.

        `end_ms` is the end that was asked for, which need not be a step: `@ end()`, `end()` and `range()` speak of it. `subquery_step_ms`:
        another step for subqueries that state none.
        """
        window = QueryWindow(start_ms=grid.start_ms, end_ms=grid.end_ms if end_ms is None else end_ms, step_ms=grid.step_ms)
        timing = self._timing(window, lookback_ms, resolution_ms, subquery_step_ms)
        prepared = await self._prepare(query, grid, timing, deadline, with_stats, trace, is_range=True)
        return await self._run(source, prepared)

    def _timing(self, window: QueryWindow, lookback_ms: int | None, resolution_ms: int | None, subquery_step_ms: int = 0) -> Timing:
        return Timing(
            window=window,
            lookback_ms=self._options.lookback_ms if lookback_ms is None else lookback_ms,
            subquery_step_ms=subquery_step_ms or self.subquery_step_ms,
            resolution_ms=resolution_ms,
        )

    async def _prepare(
        self,
        text: str,
        grid: StepGrid,
        timing: Timing,
        deadline: Deadline | None,
        with_stats: bool,
        trace: Trace,
        *,
        is_range: bool,
    ) -> _Query:
        started = perf_counter()
        step = trace.child("parse and plan")
        parsing = partial(parse, text, self._options.features)
        short = len(text) <= PARSED_AT_ONCE
        expr = parsing() if short else await asyncio.get_running_loop().run_in_executor(self._pool, parsing)
        found = value_type(expr)
        if is_range and found in _IN_MESSAGES:
            raise BadRequest(f'invalid expression type "{_IN_MESSAGES[found]}" for range query, must be Scalar or instant Vector')
        shape = Shape(expr)
        requests = plan_requests(expr, shape, grid, timing)
        step.add("selections=%d", len(requests))
        step.end()
        return _Query(
            text=text,
            expr=expr,
            shape=shape,
            grid=grid,
            timing=timing,
            deadline=deadline or Deadline.after(self._options.timeout_seconds),
            is_range=is_range,
            with_stats=with_stats,
            requests=requests,
            is_nested=has_subquery(expr),
            trace=trace,
            parse_seconds=perf_counter() - started,
        )

    async def _run(self, source: Queryable, query: _Query) -> QueryResult:
        """At once when the query is light, else in its turn; and once more when other queries held the memory it needs."""
        started = perf_counter()
        light = self._light_selection(source, query)
        if light is not None:
            return await self._run_light(query, light, started)
        try:
            return await self._in_turn(source, query, started)
        except MemoryInUse as error:
            needed = error.needed
        while True:
            waiting = query.trace.child("wait for %d bytes of memory", needed)
            async with self._heavy.memory(needed, query.deadline):
                waiting.end()
                try:
                    return await self._in_turn(source, query, started)
                except MemoryInUse as error:
                    needed = max(error.needed, needed)

    async def _run_light(self, query: _Query, selection: Selection, started: float) -> QueryResult:
        fetched = perf_counter()
        waiting = query.trace.child("wait for a turn among light queries")
        async with self._light.place(query.deadline) as place:
            waiting.end()
            query = replace(query, fetch_seconds=fetched - started, queue_seconds=perf_counter() - fetched)
            budget = self._new_budget(query.deadline, place)
            work = partial(self._execute, query, selection, budget, Chunks(None, 1, query.deadline))
            return await self._finished(work, self._light_pool, query.deadline, place)

    async def _in_turn(self, source: Queryable, query: _Query, started: float) -> QueryResult:
        waiting = query.trace.child("wait for a turn among heavy queries")
        async with self._heavy.place(query.deadline) as place:
            waiting.end()
            query = replace(query, queue_seconds=perf_counter() - started)
            budget = self._new_budget(query.deadline, place)
            try:
                return await self._attempt(source, query, budget, place, at_once=False)
            except SelectionChanged:
                query.trace.add("again, because a flush took samples away that were to be read")
                budget.clear()
                return await self._attempt(source, query, budget, place, at_once=True)

    async def _attempt(self, source: Queryable, query: _Query, budget: Budget, place: ExitStack, *, at_once: bool) -> QueryResult:
        """Fetch and execute. `at_once`: with all samples fetched before, which a flush cannot take away any more."""
        started = perf_counter()
        selection = await self._fetch(source, query, budget, at_once)
        query = replace(query, fetch_seconds=perf_counter() - started)
        chunks = Chunks(self._chunk_pool, self._threads, query.deadline)
        return await self._finished(partial(self._execute, query, selection, budget, chunks), self._pool, query.deadline, place)

    async def _finished(
        self, work: Callable[[], QueryResult], pool: ThreadPoolExecutor, deadline: Deadline, place: ExitStack
    ) -> QueryResult:
        """What the work comes to, done in a thread of a pool."""
        working = asyncio.get_running_loop().run_in_executor(pool, work)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            deadline.cancel()
            working.add_done_callback(lambda future: future.cancelled() or future.exception())
            # A cancelled query keeps its place and its memory until its worker has noticed, so that limits hold for what really runs.
            kept = place.pop_all()
            working.add_done_callback(lambda _: kept.close())
            raise
        finally:
            del working  # the traceback of its error holds this frame, so the arrays of both would stay until the garbage collector comes

    def _light_selection(self, source: Queryable, query: _Query) -> Selection | None:
        """What a light query needs: fetched on the spot, and evaluated without waiting for heavy ones; None for others."""
        if query.is_nested or not isinstance(source, Immediate):
            return None
        with query.trace.child("select") as step:
            selection = source.select_at_once(query.requests, max_samples=self._options.max_samples, trace=step)
        if selection is None or sum(len(block.labels) for block in selection.blocks) * query.grid.count > LIGHT_CELLS:
            query.trace.drop(step)
            return None
        return selection

    def _new_budget(self, deadline: Deadline, place: ExitStack) -> Budget:
        """The budget of a query, given back with its place."""
        budget = self.new_budget()
        place.callback(budget.close)
        deadline.holding = budget
        return budget

    async def _fetch(self, source: Queryable, query: _Query, budget: Budget, at_once: bool) -> Selection:
        requests = [replace(request, at_once=True) for request in query.requests] if at_once else query.requests
        try:
            async with asyncio.timeout(query.deadline.at - monotonic()):
                with query.trace.child("select") as step:
                    return await source.select(requests, max_samples=self._options.max_samples, loading=budget, trace=step)
        except TimeoutError as error:
            raise QueryTimeout("query timed out in expression evaluation") from error

    def _execute(self, query: _Query, selection: Selection, budget: Budget, chunks: Chunks) -> QueryResult:
        """Evaluate, in a worker thread."""
        started = perf_counter()
        step = query.trace.child("execute")
        run = self._execution(query, selection, budget, chunks, step)
        budget.loaded()
        rows = [block.tier for block in selection.blocks if block.tier is not None]
        total = sum(block.samples.count for block in selection.blocks) + sum(part.count for part in rows)
        held = sum(block.samples.count for block in selection.blocks if isinstance(block.samples, SampleBlock))
        run.budget.hold(total, held * SAMPLE_BYTES + sum(part.nbytes for part in rows))
        # Entered here because it does not reach a thread from outside.
        with np.errstate(all="ignore"):
            value = run.evaluate(query.expr, query.grid)
            outcome = range_outcome(run, value, query.grid) if query.is_range else instant_outcome(run, value, query.grid.start_ms)
        step.add("peak samples=%d, peak bytes=%d", budget.peak, budget.peak_bytes)
        step.end()
        per_step, read_per_step = count_samples(run, query.expr, query.grid) if query.with_stats else ((), ())
        stats = QueryStats(
            parse_seconds=query.parse_seconds,
            queue_seconds=query.queue_seconds,
            fetch_seconds=query.fetch_seconds,
            eval_seconds=perf_counter() - started,
            total_samples=sum(per_step) if query.with_stats else total,
            peak_samples=run.budget.peak,
            samples_read=sum(read_per_step) if query.with_stats else total,
            samples_per_step=per_step,
            read_per_step=read_per_step,
            steps=query.grid.count,
        )
        return QueryResult(
            value=outcome,
            warnings=selection.warnings + run.annotations.warnings,
            infos=run.annotations.infos,
            stats=stats,
            lease=budget.lease(answer_bytes(outcome)),
            notes=None if selection.warnings else run.annotations.notes,
            repeatable=run.repeatable and not any(_may_differ_by_range(block, query.timing) for block in selection.blocks),
        )

    def _execution(self, query: _Query, selection: Selection, budget: Budget, chunks: Chunks, trace: Trace) -> Execution:
        make = partial(TracedExecution, text=query.text, trace=trace) if trace.is_on else Execution
        return make(
            dispatch=dispatch,
            shape=query.shape,
            timing=query.timing,
            features=self._options.features,
            annotations=Annotations(query.text, query.grid.count),
            symbols=selection.symbols,
            chunks=chunks,
            deadline=query.deadline,
            budget=budget,
            fetched=dict(zip(query.requests, selection.blocks, strict=True)),
        )


def _may_differ_by_range(block: SeriesBlock, timing: Timing) -> bool:
    """Types and units go with the name, so series that differ in them alone become one; a tier is chosen by what is asked for in all, if it
    was not asked for by name.
    """
    return (block.tier is not None and timing.resolution_ms is None) or not _TYPED.isdisjoint(block.labels.names)
