"""What `series`, `labels` and label values have in common: `match[]`, `start`, `end` and `limit`."""

from collections.abc import Sequence
from dataclasses import dataclass

from promlike.api.errors import parameter
from promlike.api.params import Params
from promlike.errors import BadRequest
from promlike.model.labels import METRIC_NAME
from promlike.model.matchers import Matcher, MatchOp
from promlike.promql.ast import VectorSelector
from promlike.promql.options import Features
from promlike.promql.parser import parse


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelection:
    """Times are (start_ms, end_ms], as the storage takes them; the API's start is included."""

    matcher_sets: Sequence[Sequence[Matcher]]
    start_ms: int | None
    end_ms: int | None
    limit: int


def read_selection(params: Params) -> LabelSelection:
    """Raise BadRequest where a parameter is wrong or a selector would match everything."""
    start_ms = params.time_ms("start")
    return LabelSelection(
        matcher_sets=[_matchers(text) for text in params.all("match[]")],
        start_ms=None if start_ms is None else start_ms - 1,
        end_ms=params.time_ms("end"),
        limit=params.limit(),
    )


def _matchers(text: str) -> tuple[Matcher, ...]:
    with parameter("match[]"):
        matchers = read_matchers(text)
        if all(matcher.matches_empty for matcher in matchers):
            raise BadRequest("match[] must contain at least one non-empty matcher")
    return matchers


def read_matchers(text: str) -> tuple[Matcher, ...]:
    """All conditions of a series selector, its name included; raise BadRequest when the text is something else."""
    selector = parse(text, Features())
    if not isinstance(selector, VectorSelector) or selector.offset is not None or selector.at is not None:
        raise BadRequest(f"{text!r} is not a series selector")
    if selector.name is None:
        return selector.matchers
    return (Matcher(METRIC_NAME, MatchOp.EQUAL, selector.name), *selector.matchers)
