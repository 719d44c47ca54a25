"""What `series`, `labels` and label values have in common: `match[]`, `start`, `end` and `limit`."""

from collections.abc import Sequence
from dataclasses import dataclass

from promlike.api.forced import with_forced
from promlike.api.params import MAX_TIME_MS, Params
from promlike.errors import BadRequest
from promlike.model.matchers import Matcher
from promlike.promql.series_selector import series_selector


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelection:
    """Times are (start_ms, end_ms], as the storage takes them; the API's start is included."""

    matcher_sets: Sequence[Sequence[Matcher]]
    start_ms: int | None
    end_ms: int | None
    limit: int


def read_selection(params: Params) -> LabelSelection:
    """Raise BadRequest where a parameter is wrong or a selector would match everything."""
    limit = params.limit()
    start_ms = params.bound_ms("start")
    end_ms = params.bound_ms("end")
    return LabelSelection(
        matcher_sets=with_forced(params, [_matchers(text) for text in params.all("match[]")]),
        start_ms=None if start_ms is None or start_ms <= -MAX_TIME_MS else start_ms - 1,
        end_ms=None if end_ms is None or end_ms >= MAX_TIME_MS else end_ms,
        limit=limit,
    )


def _matchers(text: str) -> tuple[Matcher, ...]:
    matchers = series_selector(text)
    if all(matcher.matches_empty for matcher in matchers):
        raise BadRequest("match[] must contain at least one non-empty matcher")
    return matchers
