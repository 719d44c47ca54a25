"""Queries of the HTTP API from their request to their answer: which ones run, and who is told when one ends."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter, time

from aiohttp import web

from promlike.errors import QueryCancelled
from promlike.promql.options import Deadline
from promlike.promql.result import QueryStats

HEADERS = ("X-Dashboard-Uid", "X-Panel-Id", "X-Grafana-Org-Id", "X-Grafana-User", "FromAlert")
"""What Grafana says of where a query comes from; and every header of RULE_HEADERS."""
RULE_HEADERS = "x-rule-"

MOST_HEADER_CHARACTERS = 256

MAPPED = "::ffff:"
"""Stands before an IPv4 address where a socket takes both kinds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who asks: `headers` are those that Grafana sends of itself."""

    client_ip: str
    method: str
    path: str
    headers: Mapping[str, str]

    @classmethod
    def of(cls, request: web.Request) -> "Origin":
        found = {name: request.headers[name] for name in HEADERS if name in request.headers}
        found |= {str(name): text for name, text in request.headers.items() if name.lower().startswith(RULE_HEADERS)}
        headers = {name: text[:MOST_HEADER_CHARACTERS] for name, text in found.items()}
        return cls(client_ip=(request.remote or "").removeprefix(MAPPED), method=request.method, path=request.path, headers=headers)


@dataclass(slots=True, kw_only=True)
class RunningQuery:
    """A query on its way; an instant query has equal ends and step 0. `stats` once it is answered, `error` once it failed."""

    number: int
    text: str
    start_ms: int
    end_ms: int
    step_ms: int
    origin: Origin
    deadline: Deadline
    began_at: float = field(default_factory=time)
    began: float = field(default_factory=perf_counter)
    stats: QueryStats | None = None
    error: str = ""
    rows: int = 0
    """Sent in answer to SQL."""
    is_to_end: bool = False
    """Somebody else than its client does not want it any more."""

    @property
    def seconds(self) -> float:
        """How long it is on its way."""
        return perf_counter() - self.began


class RunningQueries:
    """The queries on their way. `told` are called with each one that ends, on the event loop's thread."""

    def __init__(self, *told: Callable[[RunningQuery], None]) -> None:
        self._told = told
        self._numbers = count(1)
        self._running: dict[int, RunningQuery] = {}
        self._tasks: dict[int, asyncio.Task[object]] = {}

    def all(self) -> Sequence[RunningQuery]:
        """The one that began first comes first."""
        return list(self._running.values())

    def end(self, number: int) -> bool:
        """Cancel a query, whether it waits or runs; False when there is none of this number."""
        query = self._running.get(number)
        if query is None:
            return False
        if not query.is_to_end:
            query.is_to_end = True
            self._tasks[number].cancel()
        return True

    @contextmanager
    def run(self, text: str, *, start_ms: int, end_ms: int, step_ms: int, origin: Origin, deadline: Deadline) -> Iterator[RunningQuery]:
        """Around a query, in its task. Its deadline is cancelled when the request ends before the query.

        Raises QueryCancelled when `end` was called for it.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a query outside of a task")
        query = RunningQuery(
            number=next(self._numbers), text=text, start_ms=start_ms, end_ms=end_ms, step_ms=step_ms, origin=origin, deadline=deadline
        )
        self._running[query.number] = query
        self._tasks[query.number] = task
        try:
            yield query
        except asyncio.CancelledError as error:
            query.error = "query was canceled"
            if not query.is_to_end:
                raise
            task.uncancel()
            raise QueryCancelled("query was canceled by an administrator") from error
        except BaseException as error:
            query.error = str(error)
            raise
        finally:
            deadline.cancel()
            del self._running[query.number], self._tasks[query.number]
            for told in self._told:
                told(query)
