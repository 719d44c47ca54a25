"""Canonical text: printing a tree and parsing it again is the identity, and pretty text is the same tree."""

import pytest
from hypothesis import HealthCheck, given, settings

from promlike.promql.ast import Expr
from promlike.promql.options import Features
from promlike.promql.parser import parse
from promlike.promql.printer import format_expr, pretty

from .random_trees import exprs

ALL = Features.all()


@given(exprs())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_printing_and_parsing_again_is_the_identity(tree: Expr) -> None:
    text = format_expr(tree)
    assert parse(text, ALL) == tree
    assert format_expr(parse(text, ALL)) == text


@given(exprs())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_pretty_text_is_the_same_tree(tree: Expr) -> None:
    assert parse(pretty(tree), ALL) == tree


LONG = 'sum by (job, instance, cluster, namespace) (rate(http_requests_total{code=~"5..",job="api"}[5m]))'

PRETTY = {
    "1+1": "1 + 1",
    f"{LONG} / on(job) group_left sum(b) > bool 0.5": f"""\
    {LONG}
  / on (job) group_left ()
    sum(b)
> bool
  0.5""",
    f"-({LONG} + b)": f"""\
-(
    {LONG}
  +
    b
)""",
    f"-sum without (x) ({LONG} + b)": f"""\
-sum without (x) (
    {LONG}
  +
    b
)""",
    f"topk(5, label_replace({LONG}, 'a', 'b', 'c', 'd'))": f"""\
topk(
  5,
  label_replace(
    {LONG},
    "a",
    "b",
    "c",
    "d"
  )
)""",
    f"max_over_time(({LONG} + b)[1h:5m] offset 1d)": f"""\
max_over_time(
  (
      {LONG}
    +
      b
  )[1h:5m] offset 1d
)""",
    f"{{__name__='{'x' * 100}'}}": f'{{__name__="{"x" * 100}"}}',
}


@pytest.mark.parametrize(("text", "expected"), PRETTY.items())
def test_what_is_longer_than_a_line_is_split_and_indented(text: str, expected: str) -> None:
    assert pretty(parse(text, ALL)) == expected


@pytest.mark.parametrize("name", ["INF", "inf", "Nan", "nan"])
def test_labels_that_look_like_numbers_are_quoted_where_numbers_could_stand(name: str) -> None:
    text = f'sum by ("{name}") (up{{{name}="a"}})'
    assert format_expr(parse(text, ALL)) == text
