"""A range query that may be cached: what its answer is kept under, and which samples its steps look at."""

from collections.abc import Iterable
from dataclasses import dataclass

from promlike.model.blocks import StepGrid
from promlike.promql.cached.changed import ChangeLog
from promlike.promql.cached.reach import Reach
from promlike.promql.cached.run import RunKey, touched_steps
from promlike.promql.options import Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """`number` and `settled_ms`: the newest change, and until when samples are settled, as it began. `is_tiered`: see `tiered.py`."""

    text: str
    key: RunKey
    grid: StepGrid
    reaches: frozenset[Reach]
    number: int
    settled_ms: int
    deadline: Deadline | None
    lookback_ms: int | None
    with_stats: bool
    is_tiered: bool = False

    def last_settled_ms(self) -> int:
        """The time after which no step may be kept."""
        return self.last_seen_before_ms(self.settled_ms + 1)

    def last_seen_before_ms(self, time_ms: int) -> int:
        """The time after which steps look at samples of this time or later."""
        if any(reach.pinned and reach.ahead_ms >= time_ms for reach in self.reaches):
            return -(2**62)
        return time_ms - 1 - max((reach.ahead_ms for reach in self.reaches if not reach.pinned), default=0)

    def first_seen_ms(self, oldest_ms: int) -> int:
        """The time before which steps look for samples older than what may be seen."""
        if any(reach.pinned and -reach.back_ms < oldest_ms for reach in self.reaches):
            return 2**62
        return oldest_ms + max((reach.back_ms for reach in self.reaches if not reach.pinned), default=0)

    def lacks(self, known: tuple[int, int] | None) -> int:
        """How many settled steps of its range are not between these times, both included."""
        grid = self.grid
        settled = min(max((self.last_settled_ms() - grid.start_ms) // grid.step_ms + 1, 0), grid.count)
        if known is None:
            return settled
        return (
            settled
            - max(min(known[1], self.last_settled_ms(), grid.end_ms) - max(known[0], grid.start_ms) + grid.step_ms, 0) // grid.step_ms
        )


def touched(reaches: Iterable[Reach], log: ChangeLog, number: int) -> list[tuple[int, int]]:
    """The closed intervals of times of steps that look at what changed after the change of this number."""
    return [
        interval
        for reach in reaches
        for change in log.since(number, reach.metric)
        if (interval := touched_steps(reach, change)) is not None
    ]
