"""Answers to parts of a range query: which of them may be put together, and what their statistics are as those of one query."""

from collections.abc import Sequence

from promlike.promql.cached.planned import Planned
from promlike.promql.cached.points import Points
from promlike.promql.result import Matrix, QueryResult, QueryStats


def may_be_joined(result: QueryResult) -> bool:
    """Can it be told what a part of it would be, or a larger whole?"""
    return result.repeatable and result.notes is not None


def points_of(result: QueryResult) -> Points:
    if not isinstance(result.value, Matrix):
        raise TypeError(f"a range query answered with a {type(result.value).__name__}")
    return Points.of(result.value)


def added(
    parts: Sequence[QueryStats], steps: int, counts: tuple[int, ...], read: tuple[int, ...], plan: Planned, seconds: float
) -> QueryStats:
    """The statistics of the parts, and of putting them together, as those of one query."""
    return QueryStats(
        parse_seconds=sum((part.parse_seconds for part in parts), 0.0),
        queue_seconds=sum((part.queue_seconds for part in parts), 0.0),
        fetch_seconds=sum((part.fetch_seconds for part in parts), 0.0),
        eval_seconds=sum((part.eval_seconds for part in parts), 0.0) + seconds,
        total_samples=sum(counts) if plan.with_stats else sum(part.total_samples for part in parts),
        peak_samples=max((part.peak_samples for part in parts), default=0),
        samples_read=sum(part.samples_read for part in parts),
        samples_per_step=counts,
        read_per_step=read,
        steps=steps,
        cached_steps=steps - sum(part.steps for part in parts),
    )
