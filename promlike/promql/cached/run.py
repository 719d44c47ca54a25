"""Answers to range queries that are kept, and how much of them still holds."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from promlike.promql.annotations import Note, cut_notes
from promlike.promql.cached.changed import Change
from promlike.promql.cached.points import Points
from promlike.promql.cached.reach import Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKey:
    """What an answer depends on besides the times of its steps: the query as it is printed, and its settings.

    `phase_ms` is what is left of a step's time when it is divided by `step_ms`; `subquery_step_ms` is that of subqueries that state none,
    or 0 where there are no subqueries.
    """

    text: str
    step_ms: int
    phase_ms: int
    lookback_ms: int
    resolution_ms: int | None
    with_stats: bool
    subquery_step_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """The answer at the steps first_ms, first_ms + step_ms, …, last_ms.

    `number` is that of the newest change it knows of; `samples_per_step` is empty unless the key is with statistics; `span_ms` is how far
    the longest query it served reaches. `notes` are the annotations, of the places in `text`, the query as it was written.
    """

    first_ms: int
    last_ms: int
    step_ms: int
    number: int
    points: Points
    samples_per_step: tuple[int, ...]
    span_ms: int
    text: str = ""
    notes: tuple[Note, ...] = ()

    @property
    def steps(self) -> int:
        return (self.last_ms - self.first_ms) // self.step_ms + 1

    @property
    def bytes(self) -> int:
        noted = sum(note.steps.nbytes + len(note.message) + 200 for note in self.notes)
        return self.points.bytes + 8 * len(self.samples_per_step) + noted + len(self.text)

    def fits(self, text: str) -> bool:
        """Do the annotations name places of this query? It is the same but for blanks."""
        return not self.notes or self.text == text

    def cut(self, first_ms: int, last_ms: int) -> "Run | None":
        """Its steps first_ms <= t <= last_ms; None without any."""
        step = self.step_ms
        first = self.first_ms + max(-((self.first_ms - first_ms) // step), 0) * step
        last = self.last_ms - max(-((last_ms - self.last_ms) // step), 0) * step
        if first > last:
            return None
        if (first, last) == (self.first_ms, self.last_ms):
            return self
        low, high = (first - self.first_ms) // step, (last - self.first_ms) // step + 1
        return replace(
            self,
            first_ms=first,
            last_ms=last,
            points=self.points.cut(first, last),
            samples_per_step=self.samples_per_step[low:high],
            notes=cut_notes(self.notes, low, high),
        )

    def without(self, touched: Iterable[tuple[int, int]], number: int) -> "Run | None":
        """The longest part none of whose steps lies in one of these closed intervals; it knows of the changes up to `number`."""
        low, high = self.first_ms, self.last_ms
        best: tuple[int, int] | None = None
        for start, end in [*sorted(touched), (high + 1, high + 1)]:
            until = min(start - 1, high)
            if until >= low and (best is None or until - low > best[1] - best[0]):
                best = low, until
            low = max(low, end + 1)
        kept = None if best is None else self.cut(*best)
        return None if kept is None else replace(kept, number=number)


def touched_steps(reach: Reach, change: Change) -> tuple[int, int] | None:
    """The closed interval of times of steps that a change may touch; None when it touches none."""
    if reach.pinned:
        meets = change.start_ms < reach.ahead_ms and -reach.back_ms < change.end_ms
        return (-(2**62), 2**62) if meets else None
    return change.start_ms - reach.ahead_ms + 1, change.end_ms + reach.back_ms - 1
