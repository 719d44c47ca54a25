"""`/api/v1/sql`: one SQL statement that reads, answered by the store. Gated by --web.enable-sql-api."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from time import monotonic, perf_counter

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no type information
from aiohttp import hdrs, web

from promlike.api.context import Api
from promlike.api.envelope import Stream, accepts_gzip, gzipped, truncated
from promlike.api.errors import InvalidParameter, SqlDisabled, parameter
from promlike.api.params import Params
from promlike.api.running import RunningQuery
from promlike.api.sql_format import Format, accepted_format, writer
from promlike.errors import BadRequest, QueryError, QueryTimeout
from promlike.model.clock import wall_clock_ms
from promlike.promql.options import Deadline
from promlike.promql.result import QueryStats
from promlike.storage.sql import SqlRows

MOST_CHARACTERS = 100_000
"""Of a statement: parsers and planners take longer and longer with long ones."""

ALL = 2**62
"""More rows than there are."""
GRACE_SECONDS = 1.0
"""After the deadline an answer that its client does not read is cut."""
BESIDES = 4
"""A batch of rows is in memory so many times: as it came, as texts of columns and of rows, and compressed."""


async def sql(api: Api, params: Params, request: web.Request) -> Stream:
    """Rows are sent as they come, so an error after the first of them can only cut the connection."""
    if not api.web.enable_sql_api:
        raise SqlDisabled("SQL API disabled, see --web.enable-sql-api")
    if params.all("extra_filters[]", "extra_filters", "extra_label"):
        raise BadRequest("SQL cannot be held to some series, so requests with extra_filters[] or extra_label are refused")
    text = params.text("query")
    if len(text) > MOST_CHARACTERS:
        raise InvalidParameter("query", f"a statement of {len(text)} characters, {MOST_CHARACTERS} are allowed")
    kind = params.choice("format", accepted_format(request))
    asked = params.limit()
    most = api.web.sql_max_rows
    limit = min(asked or most, most) if most else asked
    parts = _parts(api, params, request, kind, _Limit(rows=limit, is_asked=bool(asked) and asked == limit))
    headers: dict[str, str] = {hdrs.VARY: f"{hdrs.ACCEPT_ENCODING}, {hdrs.ACCEPT}"}
    if accepts_gzip(request):
        return Stream(content_type=kind.content_type, parts=gzipped(parts), content_encoding="gzip", more_headers=headers)
    return Stream(content_type=kind.content_type, parts=parts, more_headers=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    """Most rows of an answer, 0 for all. `is_asked`: the client knows it, for it has set it."""

    rows: int
    is_asked: bool


async def _parts(api: Api, params: Params, request: web.Request, kind: Format, limit: _Limit) -> AsyncGenerator[bytes, None]:
    """The answer to a statement, in its turn."""
    now_ms, asked = wall_clock_ms(), perf_counter()
    with api.running(params, request, start_ms=now_ms, end_ms=now_ms, step_ms=0) as running, parameter("query"):
        async with api.sql.turn(running.deadline):
            began, cutting = perf_counter(), None
            try:
                async with aclosing(_answer(api, running, kind, limit)) as parts:
                    async for part in parts:
                        if cutting is None:
                            # From now on the client can keep the turn by not reading.
                            left = running.deadline.at - monotonic() + GRACE_SECONDS
                            cutting = asyncio.get_running_loop().call_later(left, _cut, request)
                        yield part
            finally:
                if cutting is not None:
                    cutting.cancel()
                running.stats = _stats(queue_seconds=began - asked, eval_seconds=perf_counter() - began)


async def _answer(api: Api, running: RunningQuery, kind: Format, limit: _Limit) -> AsyncGenerator[bytes, None]:
    deadline, budget = running.deadline, api.engine.new_budget()
    deadline.holding = budget
    seconds = deadline.at - monotonic()
    try:
        async with AsyncExitStack() as stack:
            # One row more than the limit tells that there are more.
            asking = api.storage.sql(running.text, limit=min(limit.rows or ALL, ALL) + 1, seconds=seconds)
            async with _until(deadline):
                answer = await stack.enter_async_context(asking)
            write = writer(kind, answer)
            ready, is_cut = write.begin(), False
            async for batch in _in_time(answer, deadline):
                is_cut = bool(limit.rows) and running.rows + len(batch) > limit.rows
                if is_cut and not (write.says_cut or limit.is_asked):
                    raise QueryError(f"more than {limit.rows} rows; ask for so many with limit, or see --web.sql.max-rows")
                shown = batch[: limit.rows - running.rows] if is_cut else batch
                running.rows += len(shown)
                api.sql.rows += len(shown)
                mark = budget.mark()
                budget.hold(0, batch.nbytes * BESIDES)
                yield ready + await asyncio.to_thread(write.rows, shown)
                budget.release(mark)
                ready = b""
            yield ready + write.end(truncated(is_cut))
    finally:
        budget.close()


async def _in_time(answer: SqlRows, deadline: Deadline) -> AsyncIterator[pa.RecordBatch]:
    while True:
        async with _until(deadline):
            batch = await anext(answer.batches, None)
        if batch is None:
            return
        yield batch


@asynccontextmanager
async def _until(deadline: Deadline) -> AsyncIterator[None]:
    """Cancel what is inside when the deadline passes, and raise QueryTimeout."""
    try:
        async with asyncio.timeout(deadline.at - monotonic()):
            yield
    except TimeoutError as error:
        raise QueryTimeout("query timed out in SQL execution") from error


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _stats(*, queue_seconds: float, eval_seconds: float) -> QueryStats:
    """A statement looks at no samples that anybody counts."""
    return QueryStats(
        parse_seconds=0.0,
        queue_seconds=queue_seconds,
        fetch_seconds=0.0,
        eval_seconds=eval_seconds,
        total_samples=0,
        peak_samples=0,
        samples_read=0,
    )
