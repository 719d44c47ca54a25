"""No text crashes the parser, overflows the stack or takes long."""

import random
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promlike.errors import ParseError
from promlike.promql.ast_json import to_json
from promlike.promql.check import value_type
from promlike.promql.options import Features
from promlike.promql.parser import parse
from promlike.promql.printer import format_expr, pretty

ALL = Features.all()
SIZE = 64 << 10

LARGE: dict[str, str] = {
    "sums": "a+" * (SIZE // 2 - 1) + "a",
    "numbers": "1-" * (SIZE // 2 - 1) + "1",
    "powers": "2^" * (SIZE // 2 - 1) + "2",
    "sets": "a or " * (SIZE // 5 - 1) + "a",
    "parentheses": "(" * SIZE,
    "parentheses that close": "(" * (SIZE // 2) + "1" + ")" * (SIZE // 2 - 1),
    "braces": "{" * SIZE,
    "brackets": "[" * SIZE,
    "calls": "abs(" * (SIZE // 4),
    "signs before a number": "-" * (SIZE - 1) + "1",
    "signs before a metric": "-" * (SIZE - 1) + "a",
    "matchers": "{" + 'a="",' * (SIZE // 5 - 2) + 'b="c"}',
    "regular expressions": "{" + ",".join(f'a=~"{n}.*"' for n in range(5000)) + "}",
    "one regular expression": '{a=~"' + "(a|b)*" * (SIZE // 6 - 5) + 'c"}',
    "grouping labels": "sum by (" + "a," * (SIZE // 2 - 10) + "a) (x)",
    "matching labels": "a + on(" + "a," * (SIZE // 2 - 10) + "a) x",
    "labels on both sides": "a + on(" + "a," * (SIZE // 4) + "a) group_left(" + "b," * (SIZE // 4 - 20) + "b) x",
    "arguments": 'label_join(x,"",""' + ',""' * (SIZE // 3 - 10) + ")",
    "too many arguments": "rate(" + "1," * (SIZE // 2 - 5) + "1)",
    "subqueries": "a" + "[5m:]" * (SIZE // 5 - 1),
    "offsets": "a" + " offset 5m" * (SIZE // 10 - 1),
    "sums of durations": "a[" + "1+" * (SIZE // 2 - 5) + "1]",
    "parentheses in durations": "a[" + "(" * (SIZE - 2),
    "fills": "a + " + "fill(1) " * (SIZE // 8 - 10) + "b",
    "a string": '"' + "a" * (SIZE - 2) + '"',
    "a string of escapes": '"' + "\\n" * (SIZE // 2 - 1) + '"',
    "a string without end": '"' + "\\n" * (SIZE // 2 - 1),
    "a name": "a" * SIZE,
    "a number": "1" * SIZE,
    "a hexadecimal number": "0x" + "f" * (SIZE - 2),
    "a duration": "9" * (SIZE - 1) + "m",
    "parts of a duration": "1m" * (SIZE // 2),
    "underscores": "1_" * (SIZE // 2),
    "space": " " * SIZE,
    "comments": "#\n" * (SIZE // 2),
    "a modifier and comments": "on" + "#\n" * (SIZE // 2 - 1),
    "modifiers and comments": "on #\n" * (SIZE // 5),
    "modifiers": "bool " * (SIZE // 5),
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE.keys())
def test_64_kib_of_anything_take_seconds_at_most(text: str) -> None:
    start = time.thread_time()
    with suppress(ParseError):
        parse(text, ALL)
    assert time.thread_time() - start < 5.0  # a quadratic step would take minutes


TOO_DEEP = "expression is nested more than 1000 levels deep"

DEEP: list[tuple[str, str | None]] = [
    ("a" + "+a" * 999, None),
    ("a" + "+a" * 1000, f"1:1: parse error: {TOO_DEEP}"),
    ("2^" * 999 + "2", None),
    ("2^" * 1000 + "2", f"1:1: parse error: {TOO_DEEP}"),
    ("-" * 999 + "a", None),
    ("-" * 1000 + "a", f"1:1: parse error: {TOO_DEEP}"),
    ("a[" + "step()+" * 997 + "1]", None),
    ("a[" + "step()+" * 1000 + "1]", f"1:3: parse error: {TOO_DEEP}"),
    ("-" * 10_001 + "1", "1:10001: parse error: more than 10000 operators"),
    ("(" * 500 + "a" + ")" * 500, None),
    ("(" * 501 + "a" + ")" * 501, "1:501: parse error: more than 500 parentheses are open"),
    ("abs(-" * 499 + "a" + ")" * 499, None),
    ("(a+(" * 250 + "a" + "))" * 250, None),
    ("last_over_time(" * 300 + "a" + "[5m:])" * 300, None),
]


@pytest.mark.parametrize(("text", "message"), DEEP)
def test_deep_trees_are_walked_and_deeper_ones_refused(text: str, message: str | None) -> None:
    if message is not None:
        with pytest.raises(ParseError) as caught:
            parse(text, ALL)
        assert str(caught.value) == message
        return
    tree = parse(text, ALL)
    value_type(tree)
    assert parse(format_expr(tree), ALL) == tree
    assert hash(parse(pretty(tree), ALL)) == hash(tree)


def test_pretty_text_of_a_large_tree_takes_no_square_of_its_size() -> None:
    tree = parse("+".join(f"abs(metric_with_a_long_name_{n})" for n in range(900)), ALL)
    start = time.thread_time()
    pretty(tree)
    assert time.thread_time() - start < 5.0  # a quadratic step would take minutes


WORDS = """
a up metric:x 1 0x1f 1e3 .5 5m 1h30m Inf NaN "s" 's' `s` "label.x" ( ) ( ) { } [ ] , : @ = == != =~ !~ < > <= >= </ >/ + - * / % ^ ! $ #
sum avg topk count_values quantile limitk by without on ignoring group_left group_right bool offset start end step range min_of max_of fill
fill_left anchored smoothed and or unless atan2 rate abs time round label_replace info hour holt_winters \n é \\ " '
""".split(" ")

VALID = [
    'sum by (job) (rate(http_requests_total{code=~"5..",job!="x"}[5m] offset -1h @ start())) / on(job) group_left(team) b > bool 0.5',
    'label_replace(a{"b.c"="d"}, "x", "$1", "y", "(.*)") and topk without(z) (5, -b ^ 2)',
    "max_over_time((a + fill_left(1) fill_right(-2) b)[1h:step()*2] @ 1609746000 offset (step()/10))",
    "quantile_over_time(0.9, a[min_of(step()+1,1h)] smoothed) unless ignoring(x) histogram_quantile(0x1f, sum(b) by (le)) # comment",
]


@given(st.lists(st.sampled_from(WORDS), max_size=25), st.sampled_from(("", " ")))
@settings(max_examples=500, deadline=None)
def test_soups_of_tokens_parse_or_raise_parse_errors(words: list[str], separator: str) -> None:
    _parses_or_refuses(separator.join(words))


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_parses_or_raises_parse_errors(text: str) -> None:
    _parses_or_refuses(text)


@given(st.sampled_from(VALID), st.randoms(use_true_random=False))
@settings(max_examples=500, deadline=None)
def test_mutated_queries_parse_or_raise_parse_errors(text: str, choice: random.Random) -> None:
    for _ in range(choice.randint(1, 4)):
        at, length = choice.randrange(len(text) + 1), choice.choice((0, 0, 1, 3))
        text = text[:at] + choice.choice(("", choice.choice(WORDS))) + text[at + length :]
    _parses_or_refuses(text)


def _parses_or_refuses(text: str) -> None:
    with suppress(ParseError):
        tree = parse(text, ALL)
        to_json(tree)
        assert format_expr(parse(format_expr(tree), ALL)) == format_expr(tree)
