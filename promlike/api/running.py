"""Queries of the HTTP API from their request to their answer: which ones run, and who is told when one ends."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter, time

from aiohttp import web

from promlike.promql.options import Deadline
from promlike.promql.result import QueryStats

HEADERS = ("X-Dashboard-Uid", "X-Panel-Id", "X-Grafana-Org-Id", "X-Grafana-User", "FromAlert")
"""What Grafana says of where a query comes from; and every header of RULE_HEADERS."""
RULE_HEADERS = "x-rule-"

MOST_HEADER_CHARACTERS = 256


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
        return cls(client_ip=request.remote or "", method=request.method, path=request.path, headers=headers)


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

    def all(self) -> Sequence[RunningQuery]:
        """The one that began first comes first."""
        return list(self._running.values())

    @contextmanager
    def run(self, text: str, *, start_ms: int, end_ms: int, step_ms: int, origin: Origin, deadline: Deadline) -> Iterator[RunningQuery]:
        """Around a query. Its deadline is cancelled when the request ends before the query."""
        query = RunningQuery(
            number=next(self._numbers), text=text, start_ms=start_ms, end_ms=end_ms, step_ms=step_ms, origin=origin, deadline=deadline
        )
        self._running[query.number] = query
        try:
            yield query
        except BaseException as error:
            query.error = str(error) or "query was canceled"
            raise
        finally:
            deadline.cancel()
            del self._running[query.number]
            for told in self._told:
                told(query)
