"""`extra_filters[]` and `extra_label`, as in VictoriaMetrics: conditions that every selector of a request gets in addition.

Who puts a proxy before this server that sets them holds its users to their own series: what they give themselves can only narrow that.
"""

from promlike.api.errors import InvalidParameter, parameter
from promlike.api.params import Params
from promlike.model.labels import METRIC_NAME
from promlike.model.matchers import Matcher, MatchOp
from promlike.promql.narrow import narrowed
from promlike.promql.options import Features
from promlike.promql.parser import parse
from promlike.promql.printer import format_expr
from promlike.promql.series_selector import series_selector

FILTERS, LABEL = "extra_filters[]", "extra_label"


def forced_matchers(params: Params) -> tuple[Matcher, ...]:
    """All of them together. Raise BadRequest where one cannot be read, or is about the metric name."""
    matchers: list[Matcher] = []
    with parameter(FILTERS):
        for text in params.all("extra_filters[]", "extra_filters"):
            matchers += series_selector(text)
    if any(matcher.name == METRIC_NAME for matcher in matchers):
        raise InvalidParameter(FILTERS, "conditions are on labels, not on the name of a metric")
    for text in params.all("extra_label"):
        name, equals, value = text.partition("=")
        if not equals or not name or name == METRIC_NAME:
            raise InvalidParameter(LABEL, f"{text!r} is not name=value, with the name of a label")
        matchers.append(Matcher(name, MatchOp.EQUAL, value))
    return tuple(matchers)


def forced_query(params: Params, features: Features) -> str:
    """`query`, with those conditions in all its selectors."""
    text, matchers = params.text("query"), forced_matchers(params)
    return format_expr(narrowed(parse(text, features), matchers)) if matchers else text


def with_forced(params: Params, matcher_sets: list[tuple[Matcher, ...]]) -> list[tuple[Matcher, ...]]:
    """Sets of conditions, of which a series has to satisfy one, with those. Without any set there is one of those alone."""
    matchers = forced_matchers(params)
    if not matchers:
        return matcher_sets
    return [(*one, *matchers) for one in matcher_sets or [()]]
