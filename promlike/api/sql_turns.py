"""Statements of SQL wait for their turn, and are counted."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from prometheus_client.core import CounterMetricFamily, Metric

from promlike.api.own_metrics import gauge
from promlike.promql.admission import Admission
from promlike.promql.engine import Engine
from promlike.promql.options import Deadline, EngineOptions

AT_ONCE = 4
"""Statements that are answered at a time, at most: they have the database to themselves no more than flushes and queries have."""


class SqlTurns:
    """Everything runs on the event loop's thread. `rows`: how many were sent."""

    def __init__(self, options: EngineOptions, engine: Engine) -> None:
        at_once = min(AT_ONCE, options.max_concurrency)
        self._admission = Admission(max_concurrency=at_once, max_queued=options.max_queued, pool=engine.memory)
        self._running = 0
        self.rows = 0

    @asynccontextmanager
    async def turn(self, deadline: Deadline) -> AsyncIterator[None]:
        """A place to run in, after those who came before. Raises as `Admission.place`."""
        async with self._admission.place(deadline):
            self._running += 1
            try:
                yield
            finally:
                self._running -= 1

    def metrics(self) -> Iterable[Metric]:
        yield gauge("promlike_sql_statements", "Statements of SQL that are being answered.", self._running)
        yield gauge("promlike_sql_statements_queued", "Statements of SQL that wait for their turn.", self._admission.queued)
        yield CounterMetricFamily("promlike_sql_rows", "Rows that statements of SQL were answered with.", value=self.rows)
