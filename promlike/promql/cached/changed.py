"""What of the past has changed since an answer was kept: by metric, in ranges of time."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MOST_RANGES = 64
"""Ranges kept for a metric; beyond, the two oldest become one that covers both."""

MOST_METRICS = 10_000
"""Metrics that are told apart; beyond, every change counts for all metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Samples with times in (start_ms, end_ms] changed; `number` counts changes."""

    number: int
    start_ms: int
    end_ms: int

    def joined(self, other: "Change") -> "Change":
        return Change(
            number=max(self.number, other.number), start_ms=min(self.start_ms, other.start_ms), end_ms=max(self.end_ms, other.end_ms)
        )


class ChangeLog:
    """Remembers changes of bounded detail: what it forgets, it remembers as a change of more than there was. One thread."""

    def __init__(self) -> None:
        self.number = 0
        """Of the newest change."""
        self._of_metric: dict[str, deque[Change]] = {}
        self._of_all: deque[Change] = deque()
        self._of_others: deque[Change] = deque()
        """Of any metric, and of those that are not told apart."""

    def changed(self, metrics: Iterable[str] | None, start_ms: int, end_ms: int, number: int | None = None) -> None:
        """Samples of these metrics (None: of any) with times in (start_ms, end_ms] came, went, or got other values.

        Changes get rising numbers, unless they have some: those must not fall.
        """
        self.number = self.number + 1 if number is None else number
        change = Change(number=self.number, start_ms=start_ms, end_ms=end_ms)
        _remember(self._of_all, change)
        if metrics is None:
            _remember(self._of_others, change)
        for metric in metrics or ():
            known = self._of_metric.get(metric)
            if known is None and len(self._of_metric) >= MOST_METRICS:
                known = self._of_others
            elif known is None:
                known = self._of_metric[metric] = deque()
            _remember(known, change)

    def all_changed(self, number: int | None = None) -> None:
        """Anything may have changed."""
        self._of_metric.clear()
        self.changed(None, -(2**62), 2**62, number)

    def since(self, number: int, metric: str | None) -> Iterator[Change]:
        """The changes after the one of this number that may have touched a metric (None: any)."""
        if number == self.number:
            return
        if metric is None:
            yield from (change for change in self._of_all if change.number > number)
        else:
            for known in (self._of_metric.get(metric, ()), self._of_others):
                yield from (change for change in known if change.number > number)


def _remember(known: deque[Change], change: Change) -> None:
    while known and change.start_ms <= known[-1].start_ms and known[-1].end_ms <= change.end_ms:
        known.pop()
    known.append(change)
    if len(known) > MOST_RANGES:
        known.appendleft(known.popleft().joined(known.popleft()))
