"""What parses: texts that are canonical already, texts and their canonical form, and the trees, types and spans behind them."""

import math

import pytest

from promlike.model.matchers import Matcher, MatchOp
from promlike.promql.ast import (
    Aggregate,
    At,
    AtKind,
    Binary,
    Call,
    Card,
    DurationBinary,
    DurationCall,
    DurationLiteral,
    DurationParen,
    DurationUnary,
    Expr,
    Matching,
    MatrixSelector,
    NumberLiteral,
    Paren,
    Span,
    StringLiteral,
    Subquery,
    Unary,
    ValueType,
    VectorSelector,
)
from promlike.promql.check import value_type
from promlike.promql.options import Features
from promlike.promql.parser import parse
from promlike.promql.printer import format_expr

ALL = Features.all()


def tree(text: str) -> Expr:
    return parse(text, ALL)


CANONICAL = """
1
-1
0.25
1000000
+Inf
-Inf
NaN
5m
-1h30m
1d
"x"
"a\\nb\\t\\"c\\" \\\\ é"
up
a:b:c
up{a="b",c!="d",e=~"f",g!~"h"}
{a="b"}
{"label.x"="v",__name__="metric.name"}
{__name__!~".*b",__name__=~"a.*"}
up[5m]
up[5m] anchored
up smoothed
up @ 1609746000.123
up @ -1.500
up @ start() offset 5m
up[5m] @ end() offset -5m
up[5m] smoothed @ 2.000
up[step() + 1]
up[(1.5 * 2m) + 2m]
up[min_of(step() + 1, 1h)]
up offset step()
up offset -(step() - 5)
up offset -max_of(3s, range())
up[5m:]
up[5m:1m] @ end() offset 1w
(up)[5m:step()]
rate(up[5m])[1h:5m]
-up
+up
--up
(up)
-(1)
a + b
a - -b
a / on (x) b
a * on () b
a * ignoring (x, y) group_left (z) b
a * ignoring () group_right () b
a * on ("label.x") group_right ("é") b
a == bool 1
a > bool on (x) group_left () b
a + fill (0) b
a + fill_left (-5) b
a + fill_right (NaN) b
a + on (x) group_left () fill_left (5) fill_right (7) b
a atan2 b
a and on (x) b
a or b unless c
a </ b
a >/ 5
sum(a)
sum by (x, y) (a)
sum without () (a)
sum by ("label.x") (a)
topk(5, a)
topk by (x) (scalar(b), a)
count_values("x", a)
quantile(0.9, a)
limitk(2, a)
limit_ratio(-0.5, a)
time()
round(a)
round(a, 5)
hour(a, "Europe/Berlin")
label_join(a, "b", "c")
label_join(a, "b", "c", "d", "e")
info(a)
info(a, {})
info(a, {__name__=~".+_info",data=~".*"})
histogram_quantiles(a, "q", 0.1, 0.9)
start() + end() + range() + step()
max_of(1, min_of(2, 3))
start_timestamp(a)
"""


@pytest.mark.parametrize("text", CANONICAL.split("\n")[1:-1])
def test_canonical_text_stays_as_it_is(text: str) -> None:
    assert format_expr(tree(text)) == text


BECOMES = [
    # Numbers.
    ("0x1F", "31"),
    ("017", "15"),
    ("09", "9"),
    ("1_000", "1000"),
    ("0x_ff", "255"),
    (".2", "0.2"),
    ("2.", "2"),
    ("1.e5", "100000"),
    ("12.34E-6", "0.00001234"),
    ("1e21", "1000000000000000000000"),
    ("inF", "+Inf"),
    ("+ Inf", "+Inf"),
    ("-iNf", "-Inf"),
    ("nan", "NaN"),
    ("- -1", "1"),
    ("-5m", "-5m"),
    ("90s", "1m30s"),
    ("8d", "8d"),
    ("14d", "2w"),
    # Strings.
    (r"'\'\x41\101é\U0001F600\a'", '"\'AAé😀\\a"'),
    ("`a\\n\nb`", '"a\\\\n\\nb"'),
    (r"'\xc3\xa9'", '"é"'),
    # Space, comments, case of keywords.
    ("  a # b\n\t+ # c\r\n  b  ", "a + b"),
    ("SUM BY (A) (x) OR AVG(y Offset 1m)", "sum by (A) (x) or avg(y offset 1m)"),
    ("a ATAN2 b AND c UNLESS d OR e", "a atan2 b and c unless d or e"),
    ("a == BOOL ON (x) GROUP_LEFT b", "a == bool on (x) group_left () b"),
    ("a @ START() offset STEP()", "a @ start() offset step()"),
    ("Sum(a) By (x)", "sum by (x) (a)"),
    # Selectors.
    ('a{b="c",}', 'a{b="c"}'),
    ("a{}", "a"),
    ('{"metric.name", "label.x"="v"}', '{"label.x"="v",__name__="metric.name"}'),
    ('{"up"}', '{__name__="up"}'),
    ('up{"a"="b"}', 'up{a="b"}'),
    ('up{b="1",a="2"}', 'up{a="2",b="1"}'),
    ('up{by="a",on="b",inf="c",sum="d",offset="e"}', 'up{by="a",inf="c",offset="e",on="b",sum="d"}'),
    ("a[300]", "a[5m]"),
    ("a[1.5]", "a[1s500ms]"),
    ("a[60*30]", "a[60 * 30]"),
    ("a[ STep() ]", "a[step()]"),
    ("a[1h:60]", "a[1h:1m]"),
    ("a[range():step()]", "a[range():step()]"),
    ("a offset 300", "a offset 5m"),
    ("a offset +5m", "a offset 5m"),
    ("a offset -300", "a offset -5m"),
    ("a offset 1h @ 5", "a @ 5.000 offset 1h"),
    ("a[5m] offset 1h @ 5", "a[5m] @ 5.000 offset 1h"),
    ("a @ 2m", "a @ 120.000"),
    ("a @ 1.0005", "a @ 1.001"),
    ("a @ 100 smoothed", "a smoothed @ 100.000"),
    # Aggregations and matching.
    ("sum by (x,) (a)", "sum by (x) (a)"),
    ("sum(a) without (x)", "sum without (x) (a)"),
    ("sum by () (a)", "sum(a)"),
    ("sum by ('x', \"y z\") (a)", 'sum by (x, "y z") (a)'),
    ("a * ignoring() b", "a * b"),
    ("a * ignoring() group_left b", "a * ignoring () group_left () b"),
    ("a + fill_left(1) fill_right(1) b", "a + fill (1) b"),
    ("1 + on() 1", "1 + 1"),
]


@pytest.mark.parametrize(("text", "canonical"), BECOMES)
def test_text_becomes_canonical(text: str, canonical: str) -> None:
    assert format_expr(tree(text)) == canonical
    assert tree(canonical) == tree(text)


KEYWORDS = "sum avg by without and or unless offset start end step range min_of max_of anchored smoothed fill fill_left fill_right limitk"
MODIFIERS = "on ignoring group_left group_right bool"


@pytest.mark.parametrize("word", (KEYWORDS + " " + MODIFIERS).split())
def test_keywords_are_names_of_metrics_and_labels(word: str) -> None:
    name = VectorSelector(name=word)
    assert tree(word) == name
    assert tree(f"(({word}))") == Paren(inner=Paren(inner=name))
    assert tree(f"{word} + {word}") == Binary(op="+", left=name, right=name, matching=Matching())
    assert tree(f"sum by ({word}) ({word})") == Aggregate(op="sum", expr=name, grouping=(word,))
    assert tree(f'x{{{word}="y"}}') == VectorSelector(name="x", matchers=(Matcher(word, MatchOp.EQUAL, "y"),))


@pytest.mark.parametrize("word", KEYWORDS.split())
def test_keywords_as_metrics_take_matchers_and_ranges(word: str) -> None:
    selector = VectorSelector(name=word, matchers=(Matcher("a", MatchOp.EQUAL, "b"),))
    assert tree(f'rate({word}{{a="b"}}[5m])') == Call(
        function="rate", args=(MatrixSelector(selector=selector, range=DurationLiteral(seconds=300)),)
    )


def test_modifiers_are_modifiers_where_one_can_stand() -> None:
    a, b = VectorSelector(name="a"), VectorSelector(name="b")
    assert tree("a == bool -b") == Binary(op="==", left=a, right=Unary(op="-", operand=b), bool_modifier=True, matching=Matching())
    assert tree("a == bool (b)") == Binary(op="==", left=a, right=Paren(inner=b), bool_modifier=True, matching=Matching())
    assert tree("other + fill(0) fill") == Binary(
        op="+",
        left=VectorSelector(name="other"),
        right=VectorSelector(name="fill"),
        matching=Matching(fill_left=0.0, fill_right=0.0),
    )


GROUPED = [
    ("1 + 2 * 3", "1 + (2 * 3)"),
    ("1 * 2 + 3", "(1 * 2) + 3"),
    ("1 - 2 - 3", "(1 - 2) - 3"),
    ("2 ^ 3 ^ 2", "2 ^ (3 ^ 2)"),
    ("-a ^ 2", "-(a ^ 2)"),
    ("-2 ^ 2", "-(2 ^ 2)"),
    ("2 ^ -a ^ b", "2 ^ (-(a ^ b))"),
    ("2 ^ -a * b", "(2 ^ (-a)) * b"),
    ("-a * b", "(-a) * b"),
    ("a * -b + c", "(a * (-b)) + c"),
    ("a % b atan2 c / d", "((a % b) atan2 c) / d"),
    ("a + b > c + d", "(a + b) > (c + d)"),
    ("a > b == c", "(a > b) == c"),
    ("a and b or c and d", "(a and b) or (c and d)"),
    ("a or b unless c", "a or (b unless c)"),
    ("a unless b and c", "(a unless b) and c"),
    ("a == b and c < d", "(a == b) and (c < d)"),
    ("-a @ 5", "-(a @ 5)"),
    ("a + b offset 5m", "a + (b offset 5m)"),
    ("a offset step()*2", "(a offset step()) * 2"),
    ("a offset -step()*2", "(a offset -step()) * 2"),
    ("a offset step()^0", "(a offset step()) ^ 0"),
    ("a offset min_of(step(), 1s)+8000", "(a offset min_of(step(), 1s)) + 8000"),
    ("a offset -(min_of(step(), 2s)-5)+8000", "(a offset -(min_of(step(), 2s) - 5)) + 8000"),
    ("a offset 5m + 1", "(a offset 5m) + 1"),
    ("a @ 5 - 1", "(a @ 5) - 1"),
]


@pytest.mark.parametrize(("text", "grouped"), GROUPED)
def test_operators_bind_by_precedence(text: str, grouped: str) -> None:
    assert tree(text) == _without_parens(tree(grouped))


def _without_parens(expr: Expr) -> Expr:
    match expr:
        case Paren(inner=inner):
            return _without_parens(inner)
        case Unary(op=op, operand=operand):
            return Unary(op=op, operand=_without_parens(operand))
        case Binary():
            left, right = _without_parens(expr.left), _without_parens(expr.right)
            return Binary(op=expr.op, left=left, right=right, matching=expr.matching)
        case _:
            return expr


def test_durations_bind_by_precedence() -> None:
    number = [DurationLiteral(seconds=float(n), is_number=True) for n in range(5)]
    step = DurationCall(function="step")
    selector = tree("a[1+2*-3^2%step()]")
    assert isinstance(selector, MatrixSelector)
    power = DurationUnary(op="-", operand=DurationBinary(op="^", left=number[3], right=number[2]))
    product = DurationBinary(op="%", left=DurationBinary(op="*", left=number[2], right=power), right=step)
    assert selector.range == DurationBinary(op="+", left=number[1], right=product)
    assert tree("a offset (1)") == VectorSelector(name="a", offset=DurationParen(inner=number[1]))


def test_trees_hold_what_was_written() -> None:
    assert tree('sum by (x) (rate(a{b=~"c"}[5m] offset 1m @ end()))') == Aggregate(
        op="sum",
        grouping=("x",),
        expr=Call(
            function="rate",
            args=(
                MatrixSelector(
                    selector=VectorSelector(
                        name="a",
                        matchers=(Matcher("b", MatchOp.REGEX, "c"),),
                        offset=DurationLiteral(seconds=60),
                        at=At(kind=AtKind.END),
                    ),
                    range=DurationLiteral(seconds=300),
                ),
            ),
        ),
    )
    assert tree("a / on(x) group_left(y) b > 1") == Binary(
        op=">",
        left=Binary(
            op="/",
            left=VectorSelector(name="a"),
            right=VectorSelector(name="b"),
            matching=Matching(card=Card.MANY_TO_ONE, on=True, labels=("x",), include=("y",)),
        ),
        right=NumberLiteral(value=1.0),
    )
    assert tree("(a)[1h:] @ 1.5") == Subquery(
        expr=Paren(inner=VectorSelector(name="a")), range=DurationLiteral(seconds=3600), at=At(kind=AtKind.TIME, time_ms=1500)
    )


def test_matching_is_set_exactly_between_vectors() -> None:
    assert tree("a and b") == Binary(
        op="and", left=VectorSelector(name="a"), right=VectorSelector(name="b"), matching=Matching(card=Card.MANY_TO_MANY)
    )
    scalar = tree("1 + scalar(a)")
    mixed = tree("(1 + 1) * a")
    assert isinstance(scalar, Binary)
    assert isinstance(mixed, Binary)
    assert scalar.matching is None
    assert mixed.matching is None


TYPES = [
    ("1", ValueType.SCALAR),
    ('("a")', ValueType.STRING),
    ("-a", ValueType.VECTOR),
    ("a[5m]", ValueType.MATRIX),
    ("(a[5m:])", ValueType.MATRIX),
    ("1 + 1", ValueType.SCALAR),
    ("1 + vector(1)", ValueType.VECTOR),
    ("a and b", ValueType.VECTOR),
    ("time()", ValueType.SCALAR),
    ("sum(a)", ValueType.VECTOR),
]


@pytest.mark.parametrize(("text", "expected"), TYPES)
def test_types(text: str, expected: ValueType) -> None:
    assert value_type(tree(text)) is expected


def test_spans_cover_the_text_of_a_node() -> None:
    text = 'histogram_quantile(0.9, rate(a{b="c"}[5m] offset 1m)) + -(sum(x) by (y) )'
    whole = tree(text)
    assert isinstance(whole, Binary)
    assert isinstance(whole.left, Call)
    rate = whole.left.args[1]
    assert isinstance(rate, Call)
    matrix = rate.args[0]
    assert isinstance(matrix, MatrixSelector)
    assert isinstance(whole.right, Unary)
    assert isinstance(whole.right.operand, Paren)

    def covered(span: Span) -> str:
        return text[span.start : span.end]

    assert covered(whole.span) == text
    assert covered(whole.left.args[0].span) == "0.9"
    assert covered(rate.span) == 'rate(a{b="c"}[5m] offset 1m)'
    assert covered(matrix.span) == 'a{b="c"}[5m] offset 1m'
    assert covered(matrix.selector.span) == 'a{b="c"}'
    assert covered(matrix.range.span) == "5m"
    assert covered(whole.right.span) == "-(sum(x) by (y) )"
    assert covered(whole.right.operand.inner.span) == "sum(x) by (y)"


def test_equal_texts_are_parsed_once() -> None:
    assert parse("a + b", ALL) is parse("a + b", ALL)
    assert parse("a + b", ALL) is not parse("a +  b", ALL)


def test_not_a_number_equals_itself_in_trees() -> None:
    first, second = tree("NaN"), tree(" -nan")
    assert isinstance(first, NumberLiteral)
    assert math.isnan(first.value)
    assert first == second


def test_strings_that_are_no_utf8_keep_their_bytes_and_labels_get_replacement_characters() -> None:
    assert tree(r'"\xff"') == StringLiteral(value="\udcff")
    assert format_expr(tree(r'"\xff"')) == r'"\xff"'
    assert tree(r'x{"\xff"="\xfe"}') == tree('x{"\ufffd"="\ufffd"}')
