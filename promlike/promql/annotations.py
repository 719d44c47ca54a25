"""Warnings and infos of a query: collected beside its value, in order of first occurrence, without duplicates. Axis letter: T steps."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import numpy as np

from promlike.model.blocks import Bool
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


class Scope(Enum):
    """What the steps are at which an expression is being evaluated."""

    STEPS = 1
    """Those of the query."""
    STILL = 2
    """Any: it is the same at all steps of the query."""
    OTHER = 3
    """Others, or it depends on the query's steps as a whole whether it is evaluated."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Note:
    """An annotation with the steps, `bool[T]`, each of which would alone have given it. Notes are in the order in which they are given."""

    is_warning: bool
    message: str
    span: Span
    steps: Bool

    @property
    def key(self) -> tuple[bool, str, Span]:
        return self.is_warning, self.message, self.span


class Annotations:
    """Collects the annotations of one query, each text ending in the position it speaks of. Used by one thread at a time.

    As in Prometheus, what is said again at another place of the query is kept once, with the place where it was said last.
    """

    __slots__ = ("_forced", "_given", "_infos", "_notes", "_query", "_scope", "_steps", "_warnings")

    def __init__(self, query: str, steps: int = 1) -> None:
        self._query = query
        self._steps = steps
        self._scope = Scope.STEPS
        self._given = 0
        self._notes: list[Note] | None = []
        self._warnings: dict[str, Span] = {}
        self._infos: dict[str, Span] = {}
        self._forced: dict[str, Forced] = {}

    def warn(self, message: str, span: Span, steps: Bool | None = None) -> None:
        """`message` as in `quantile value should be between 0 and 1, got 1.5`.

        `steps bool[T]`, of those the expression is evaluated at: each would alone have given it, and no other would; None when not known.
        """
        self._given += 1
        self._note(message, span, steps, is_warning=True)
        self._warnings[message] = span

    def info(self, message: str, span: Span, forced: Forced | None = None, steps: Bool | None = None) -> None:
        """`message` as in `metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "x"`; see `warn`.

        `forced` goes behind it, together with what was said before of the same place.
        """
        self._given += 1
        self._note(message, span, steps, is_warning=False)
        if forced is not None:
            before = self._forced.get(message) if self._infos.get(message) == span else None
            self._forced[message] = forced if before is None else before.merged(forced)
        self._infos[message] = span

    @contextmanager
    def beneath(self, scope: Scope) -> Iterator[None]:
        """What is evaluated inside has this scope, unless it is the same at all steps anyway."""
        before = self._scope
        if before is Scope.STEPS or (before is Scope.OTHER and scope is Scope.OTHER):
            self._scope = scope
        try:
            yield
        finally:
            self._scope = before

    def lose(self) -> None:
        """Something that could have given annotations was not evaluated, because of all steps together."""
        if self._scope is not Scope.STILL:
            self._notes = None

    @property
    def notes(self) -> tuple[Note, ...] | None:
        """All that was given, by steps; None when that is not known."""
        return None if self._notes is None else tuple(self._notes)

    def _note(self, message: str, span: Span, steps: Bool | None, *, is_warning: bool) -> None:
        if self._scope is Scope.STILL:
            steps = np.ones(self._steps, np.bool_)
        if self._notes is None or steps is None or self._scope is Scope.OTHER:
            self._notes = None
            return
        note = Note(is_warning=is_warning, message=message, span=span, steps=steps)
        if any(known.key == note.key for known in self._notes):
            self._notes = None  # said twice of one place: which of both would other steps say?
            return
        self._notes.append(note)

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


def rendered(query: str, notes: Sequence[Note]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The warnings and the infos of a query that had these notes."""
    annotations = Annotations(query)
    for note in notes:
        (annotations.warn if note.is_warning else annotations.info)(note.message, note.span)
    return annotations.warnings, annotations.infos


def joined_notes(parts: Sequence[tuple[int, Sequence[Note]]]) -> tuple[Note, ...] | None:
    """The notes of ranges of so many steps each that follow one another; None when their order in the whole is not known."""
    longest = max((notes for _, notes in parts), key=len, default=())
    order = [note.key for note in longest]
    found = []
    for _, notes in parts:
        places = [order.index(note.key) if note.key in order else -1 for note in notes]
        if -1 in places or sorted(places) != places:
            return None
    for key, note in zip(order, longest, strict=True):
        steps = [next((other.steps for other in notes if other.key == key), np.zeros(count, np.bool_)) for count, notes in parts]
        found.append(Note(is_warning=note.is_warning, message=note.message, span=note.span, steps=np.concatenate(steps)))
    return tuple(found)


def cut_notes(notes: Sequence[Note], low: int, high: int) -> tuple[Note, ...]:
    """Those of the steps low..high-1."""
    cut = (Note(is_warning=note.is_warning, message=note.message, span=note.span, steps=note.steps[low:high]) for note in notes)
    return tuple(note for note in cut if note.steps.any())


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
