"""Range queries through the result cache: only the steps that it does not have are evaluated."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TypeVar

from promlike.errors import StorageError
from promlike.model.blocks import StepGrid
from promlike.model.clock import Utc
from promlike.model.flushes import FlushNews, StoreView
from promlike.model.frame import SymbolScope
from promlike.model.trace import OFF, Trace
from promlike.promql import ast
from promlike.promql.annotations import joined_notes, rendered
from promlike.promql.cached.cache import ResultCache
from promlike.promql.cached.changed import ChangeLog
from promlike.promql.cached.history import StoreHistory
from promlike.promql.cached.parts import added, may_be_joined, points_of
from promlike.promql.cached.planned import Planned, touched
from promlike.promql.cached.points import Points, joined
from promlike.promql.cached.reach import has_gaps, reaches
from promlike.promql.cached.run import Run, RunKey
from promlike.promql.cached.shared import SharedRuns
from promlike.promql.cached.tiered import with_tier
from promlike.promql.context import QueryWindow
from promlike.promql.engine import PARSED_AT_ONCE, Engine
from promlike.promql.options import Deadline, EngineOptions
from promlike.promql.parser import parse
from promlike.promql.plan import plan_requests
from promlike.promql.printer import format_expr
from promlike.promql.result import SAMPLE_TEXT_BYTES, Matrix, QueryResult
from promlike.promql.shape import Shape, has_subquery
from promlike.promql.steady import is_steady
from promlike.promql.timing import Timing
from promlike.storage.access import Fit, Queryable, SelectRequest, TierChoice

T = TypeVar("T")

YOUNG_MS = 120_000
"""Steps that look at samples younger than this are not kept: more samples are likely to come."""

SETTLED_MS = 60_000
"""Samples that come later than this after their time are told of as changes. The difference is how far the clock may go back."""

LEAST_SHARE = 10
"""Less than this part of a query's steps is not worth evaluating the others apart."""

JOINED_AT_ONCE = 50_000
"""Answers of more points are put together in a worker thread."""


class CachedRanges:
    """Answers range queries as the engine does, bit for bit, but for statistics. Everything runs on the event loop's thread.

    `log` must be told of every change of samples older than SETTLED_MS once it can be read, `flushes(after)` tells what flushes changed
    after the one of this number, those of others among them, `oldest_ms()` is the time before which retention lets nothing be seen, and
    `choose_tiers(requests)` says which rollup tiers would answer them now. `view()` tells up to which flush what others stored is
    seen as a whole, and `hurry()` asks for more to be. `shared`: the second level of the cache, which goes
    by the same `history`.
    """

    def __init__(
        self,
        engine: Engine,
        options: EngineOptions,
        cache: ResultCache,
        log: ChangeLog,
        pool: ThreadPoolExecutor,
        *,
        oldest_ms: Callable[[], int],
        history: StoreHistory,
        flushes: Callable[[int], Awaitable[FlushNews]],
        choose_tiers: Callable[[Sequence[SelectRequest]], Awaitable[TierChoice]],
        view: Callable[[], StoreView],
        hurry: Callable[[], Awaitable[None]],
        now_ms: Callable[[], int],
        shared: SharedRuns | None = None,
    ) -> None:
        self._engine = engine
        self._options = options
        self._cache = cache
        self._log = log
        self._pool = pool
        self._oldest_ms = oldest_ms
        self._history = history
        self._flushes = flushes
        self._choose_tiers = choose_tiers
        self._view = view
        self._hurry = hurry
        self._now_ms = now_ms
        self._shared = shared
        self._has_others = False
        """Has another daemon written into the database, as far as is known?"""

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
        use_cache: bool = True,
        trace: Trace = OFF,
    ) -> QueryResult:
        """As `Engine.range`."""
        counters = self._cache.counters
        counters.steps += grid.count
        plan = None
        looking = trace.child("look into the result cache")
        if not use_cache or not self._cache.max_bytes:
            looking.add("switched off")
        elif await self._knows_others():
            plan = await self._plan(query, grid, deadline, lookback_ms, with_stats, resolution_ms, looking)
        else:
            looking.add("not used, because the store does not tell what others changed")
        if plan is None:
            counters.bypassed += not use_cache
            counters.uncacheable += use_cache
            looking.end()
            return await self._engine.range(
                source,
                query,
                grid,
                end_ms=end_ms,
                deadline=deadline,
                lookback_ms=lookback_ms,
                with_stats=with_stats,
                resolution_ms=resolution_ms,
                trace=trace,
            )
        run, shared = self._valid(plan), None
        if self._shared is not None and not plan.is_tiered and plan.lacks(_span(run)) * LEAST_SHARE > grid.count:
            with looking.child("ask the cache that daemons share") as step:
                shared = await self._shared.find(plan)
                step.add("steps=%d", 0 if shared is None else shared.steps)
            if shared is not None and plan.lacks(_span(shared)) < plan.lacks(_span(run)):
                run = shared
        found = None if run is None or not run.fits(query) else run.cut(grid.start_ms, grid.end_ms)
        if found is None:
            looking.add("steps=0 of %d", grid.count)
        else:
            looking.add("steps=%d of %d, %s to %s", found.steps, grid.count, Utc(found.first_ms), Utc(found.last_ms))
        looking.end()
        result = None if found is None else await self._around(source, plan, found, trace, from_shared=run is shared)
        if result is None or not self._still_holds(plan):
            counters.missed += 1
            result = await self._part(source, plan, grid, trace)
        else:
            counters.partial += result.stats.cached_steps < grid.count
            counters.whole += result.stats.cached_steps == grid.count
            counters.cached_steps += result.stats.cached_steps
            counters.shared_steps += result.stats.shared_steps
        if result.stats.cached_steps < grid.count:
            await self._keep(plan, run, result)
        elif run is shared and run is not None:
            self._cache.put(plan.key, run)
        return result

    async def _knows_others(self) -> bool:
        """Note what others changed. False when that cannot be found out, so that nothing that is kept can be trusted."""
        after = self._history.last
        try:
            news = await self._flushes(after)
        except StorageError:
            return False
        self._history.learn(news, after, self._log)
        self._has_others = self._has_others or any(not record.own for record in news.records)
        return True

    async def _plan(
        self,
        query: str,
        grid: StepGrid,
        deadline: Deadline | None,
        lookback_ms: int | None,
        with_stats: bool,
        resolution_ms: int | None,
        trace: Trace,
    ) -> Planned | None:
        """None when the query may not be cached; `trace` is told why."""
        if len(query) > PARSED_AT_ONCE:
            trace.add("not used, because the query is too long")
            return None
        expr = parse(query, self._options.features)
        if not is_steady(expr, self._options.features):
            trace.add("not used, because steps may depend on others, or on the range")
            return None
        lookback = self._options.lookback_ms if lookback_ms is None else lookback_ms
        timing = Timing(
            window=QueryWindow(start_ms=grid.start_ms, end_ms=grid.end_ms, step_ms=grid.step_ms),
            lookback_ms=lookback,
            subquery_step_ms=self._engine.subquery_step_ms,
            resolution_ms=resolution_ms,
        )
        plan = Planned(
            text=query,
            key=RunKey(
                text=format_expr(expr),
                step_ms=grid.step_ms,
                phase_ms=grid.start_ms % grid.step_ms,
                lookback_ms=lookback,
                resolution_ms=resolution_ms,
                with_stats=with_stats,
                subquery_step_ms=timing.subquery_step_ms if has_subquery(expr) else 0,
            ),
            grid=grid,
            reaches=reaches(expr, timing),
            number=self._log.number,
            settled_ms=self._now_ms() - YOUNG_MS,
            deadline=deadline,
            lookback_ms=lookback_ms,
            with_stats=with_stats,
        )
        if has_gaps(expr, timing, grid.step_ms):
            trace.add("not used, because of a subquery with gaps")
            return None
        if self._sees_news(plan):
            await self._hurry()
            plan = replace(plan, number=self._log.number)
            if self._sees_news(plan):
                trace.add("not used, because others have just stored what steps look at")
                return None
        chosen = await self._with_chosen(expr, timing, plan)
        if chosen is None:
            trace.add("not used, because of rollups that change yet, or for this range only, or because samples are gone")
        return chosen

    def _sees_news(self, plan: Planned) -> bool:
        """May steps look at what others stored and this process does not see as a whole yet? How much of it, depends on what is read."""
        followed = self._view().flush
        if followed >= self._history.last:
            return False
        touched_steps = self._history.touched_since(followed, plan.reaches)
        return any(first <= plan.grid.end_ms and last >= plan.grid.start_ms for first, last in touched_steps)

    async def _with_chosen(self, expr: ast.Expr, timing: Timing, plan: Planned) -> Planned | None:
        """With the tier, or samples, chosen for the range as a whole, from which parts are to be read, too; None when that may not be."""
        is_hidden = plan.grid.start_ms < plan.first_seen_ms(self._oldest_ms())
        requests = plan_requests(expr, Shape(expr), plan.grid, timing)
        options = [option for request in requests for option in request.tiers]
        if not is_hidden and all(option.fit is Fit.ROUGH and not option.forced for option in options):
            return plan
        choice = await self._choose_tiers(requests)
        if choice.resolutions_ms:
            return None if self._has_others else with_tier(plan, requests, choice, is_hidden=is_hidden)
        return None if is_hidden else replace(plan, key=replace(plan.key, resolution_ms=0))

    def _still_holds(self, plan: Planned) -> bool:
        """Are rows still what they were when it began? Until a change is rolled up, rows of other times may be hidden with it."""
        return not plan.is_tiered or self._log.number == plan.number

    def _valid(self, plan: Planned) -> Run | None:
        """What is kept for a query and still holds."""
        run = self._cache.get(plan.key)
        if run is None:
            return None
        if run.number != plan.number:
            known, run = run, run.without(touched(plan.reaches, self._log, run.number), plan.number)
            self._cache.counters.invalidated += run is None or run.points is not known.points
            if run is None:
                self._cache.drop(plan.key)
                return None
            self._cache.put(plan.key, run)
        return run

    async def _around(self, source: Queryable, plan: Planned, found: Run, trace: Trace, *, from_shared: bool) -> QueryResult | None:
        """The answer from what was found and what is evaluated before and after it; None when they may not be put together."""
        grid, step = plan.grid, plan.grid.step_ms
        before = StepGrid(start_ms=grid.start_ms, step_ms=step, count=(found.first_ms - grid.start_ms) // step)
        after = StepGrid(start_ms=found.last_ms + step, step_ms=step, count=(grid.end_ms - found.last_ms) // step)
        if (grid.count - before.count - after.count) * LEAST_SHARE < grid.count:
            trace.add("too few steps are cached to be worth it")
            return None
        results: dict[StepGrid, QueryResult] = {}
        for part in (before, after):
            if part.count:
                result = await self._part(source, plan, part, trace)
                if not may_be_joined(result):
                    trace.add("again as a whole, because what was evaluated cannot be joined to what is cached")
                    return None
                results[part] = result
        started = perf_counter()
        parts = [found.points]
        counts = found.samples_per_step
        read = (0,) * len(counts)
        if before in results:
            parts.insert(0, points_of(results[before]))
            counts = results[before].stats.samples_per_step + counts
            read = results[before].stats.read_per_step + read
        if after in results:
            parts.append(points_of(results[after]))
            counts += results[after].stats.samples_per_step
            read += results[after].stats.read_per_step
        noted = [(part.count, result.notes or ()) for part, result in results.items()]
        noted.insert(before in results, (found.steps, found.notes))
        notes = joined_notes(noted)
        if notes is None:
            trace.add("again as a whole, because annotations of parts do not tell their order")
            return None
        points = sum(part.samples.count for part in parts)
        lease = self._engine.memory.lease(points * SAMPLE_TEXT_BYTES)
        with trace.child("put together: parts=%d, points=%d", len(parts), points):
            matrix = await self._in_thread(partial(joined, parts, SymbolScope()), points)
        stats = added([result.stats for result in results.values()], grid.count, counts, read, plan, perf_counter() - started)
        stats = replace(stats, shared_steps=stats.cached_steps if from_shared else 0)
        warnings, infos = rendered(plan.text, notes)
        return QueryResult(value=matrix, warnings=warnings, infos=infos, stats=stats, lease=lease, notes=notes)

    async def _part(self, source: Queryable, plan: Planned, grid: StepGrid, trace: Trace) -> QueryResult:
        with trace.child("evaluate: steps=%d, %s to %s", grid.count, Utc(grid.start_ms), Utc(grid.end_ms)) as step:
            return await self._engine.range(
                source,
                plan.text,
                grid,
                deadline=plan.deadline,
                lookback_ms=plan.lookback_ms,
                with_stats=plan.with_stats,
                resolution_ms=plan.key.resolution_ms,
                subquery_step_ms=plan.key.subquery_step_ms,
                trace=step,
            )

    async def _keep(self, plan: Planned, run: Run | None, result: QueryResult) -> None:
        """Remember an answer, without its young steps, together with what is kept from before it."""
        if not may_be_joined(result) or not isinstance(result.value, Matrix) or not self._still_holds(plan):
            return
        grid = plan.grid
        last_ms = min(plan.last_settled_ms(), grid.end_ms)
        if last_ms < grid.start_ms:
            return
        fresh = Run(
            first_ms=grid.start_ms,
            last_ms=grid.end_ms,
            step_ms=grid.step_ms,
            number=plan.number,
            points=await self._in_thread(partial(Points.of, result.value), result.value.samples.count),
            samples_per_step=result.stats.samples_per_step,
            span_ms=grid.end_ms - grid.start_ms,
            text=plan.text,
            notes=result.notes or (),
        ).cut(grid.start_ms, last_ms)
        if fresh is not None:
            whole = fresh if run is None else await self._extended(run, fresh)
            self._cache.put(plan.key, whole)
            if self._shared is not None and not plan.is_tiered:
                self._shared.offer(plan, whole)

    async def _extended(self, run: Run, fresh: Run) -> Run:
        """A fresh run with what is known of the steps right before and after it, no more than the longest query asks for."""
        step, span_ms = fresh.step_ms, max(run.span_ms, fresh.span_ms)
        last_ms = max(run.last_ms, fresh.last_ms) if run.first_ms <= fresh.last_ms + step else fresh.last_ms
        parts = [fresh]
        if run.last_ms >= fresh.first_ms - step:
            earlier = run.cut(last_ms - span_ms, fresh.first_ms - step)
            parts = [earlier, *parts] if earlier is not None else parts
        later = run.cut(fresh.last_ms + step, last_ms) if last_ms > fresh.last_ms else None
        parts = [*parts, later] if later is not None else parts
        if len(parts) == 1:
            return replace(fresh, span_ms=span_ms)
        notes = joined_notes([(part.steps, part.notes) for part in parts]) if all(part.fits(fresh.text) for part in parts) else None
        if notes is None:
            return replace(fresh, span_ms=span_ms)
        points = [part.points for part in parts]
        matrix = await self._in_thread(partial(joined, points, SymbolScope()), sum(part.samples.count for part in points))
        return replace(
            fresh,
            first_ms=parts[0].first_ms,
            last_ms=parts[-1].last_ms,
            points=Points.of(matrix),
            samples_per_step=tuple(count for part in parts for count in part.samples_per_step),
            notes=notes,
            span_ms=span_ms,
        )

    async def _in_thread(self, function: Callable[[], T], points: int) -> T:
        """Run at once what has few points to move."""
        if points <= JOINED_AT_ONCE:
            return function()
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)


def _span(run: Run | None) -> tuple[int, int] | None:
    return None if run is None else (run.first_ms, run.last_ms)
