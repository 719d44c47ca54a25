"""Warnings and infos of a query: collected beside its value, in order of first occurrence, without duplicates."""

from dataclasses import dataclass

import numpy as np

from promlike.promql.ast import Span
from promlike.promql.calls.number_text import format_g


@dataclass(frozen=True, slots=True, kw_only=True)
class Forced:
    """How the buckets of classic histograms had to be changed to rise: upper bounds of the first and last one, the greatest change,
    and over how many histograms, at which times.
    """

    low: float
    high: float
    difference: float
    count: int
    first_ms: int
    last_ms: int

    def merged(self, other: "Forced") -> "Forced":
        return Forced(
            low=min(self.low, other.low),
            high=max(self.high, other.high),
            difference=max(self.difference, other.difference),
            count=self.count + other.count,
            first_ms=min(self.first_ms, other.first_ms),
            last_ms=max(self.last_ms, other.last_ms),
        )

    def __str__(self) -> str:
        times = f"{_rfc3339(self.first_ms)} to {_rfc3339(self.last_ms)}"
        bounds = f"from buckets {format_g(self.low)} to {format_g(self.high)}"
        return f"{bounds}, with a max diff of {_two_digits(self.difference)}, over {self.count} samples from {times}"


class Annotations:
    """Collects the annotations of one query, each text ending in the position it speaks of. Used by one thread at a time.

    As in Prometheus, what is said again at another place of the query is kept once, with the place where it was said last.
    """

    __slots__ = ("_forced", "_given", "_infos", "_query", "_warnings")

    def __init__(self, query: str) -> None:
        self._query = query
        self._given = 0
        self._warnings: dict[str, Span] = {}
        self._infos: dict[str, Span] = {}
        self._forced: dict[str, Forced] = {}

    def warn(self, message: str, span: Span) -> None:
        """`message` as in `quantile value should be between 0 and 1, got 1.5`."""
        self._given += 1
        self._warnings[message] = span

    def info(self, message: str, span: Span, forced: Forced | None = None) -> None:
        """`message` as in `metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "x"`.

        `forced` goes behind it, together with what was said before of the same place.
        """
        self._given += 1
        if forced is not None:
            before = self._forced.get(message) if self._infos.get(message) == span else None
            self._forced[message] = forced if before is None else before.merged(forced)
        self._infos[message] = span

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(f"PromQL warning: {message} ({position(self._query, span)})" for message, span in self._warnings.items())

    @property
    def infos(self) -> tuple[str, ...]:
        return tuple(f"PromQL info: {self._detailed(message)} ({position(self._query, span)})" for message, span in self._infos.items())

    def _detailed(self, message: str) -> str:
        forced = self._forced.get(message)
        return message if forced is None else f"{message}, {forced}"

    def __len__(self) -> int:
        """How many were given, those given again included."""
        return self._given


def position(query: str, span: Span) -> str:
    """`line:column` of where a span starts, counting from 1; columns count bytes of UTF-8, as Prometheus does."""
    before = query[: span.start]
    line_start = before.rfind("\n") + 1
    column = len(before[line_start:].encode("utf-8", "surrogateescape"))
    return f"{before.count(chr(10)) + 1}:{column + 1}"


def _two_digits(value: float) -> str:
    """As Go's `%.2g`."""
    return f"{value:.2g}" if np.isfinite(value) else format_g(value)


def _rfc3339(time_ms: int) -> str:
    """With as many digits of a second as it needs."""
    text = str(np.datetime_as_string(np.datetime64(time_ms, "ms")))
    return f"{text.rstrip('0').removesuffix('.')}Z"
