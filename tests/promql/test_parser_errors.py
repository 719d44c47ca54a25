"""What does not parse, and what is said about it: a table of texts with line, column and message, in Prometheus's words."""

import pytest

from promlike.errors import ParseError
from promlike.promql.options import Features
from promlike.promql.parser import parse

OPERAND_NEEDED = "modifier must be preceded by an instant vector selector or range vector selector or a subquery"
RENAMED = 'it is called "double_exponential_smoothing" in Prometheus 3'
DURATION = "expected number, duration, step(), or range()"

ERRORS: list[tuple[str, str]] = [
    # Nothing, or something that does not end.
    ("", "1:1: no expression found in input"),
    ("# only a comment", "1:1: no expression found in input"),
    ("1 + ", "1:5: unexpected end of input"),
    ("+", "1:2: unexpected end of input"),
    ("a and", "1:6: unexpected end of input"),
    ("(", "1:2: unclosed left parenthesis"),
    ("((1)", "1:5: unclosed left parenthesis"),
    ("sum(1", "1:6: unclosed left parenthesis"),
    ("1)", "1:3: unexpected right parenthesis ')'"),
    (")", "1:2: unexpected right parenthesis ')'"),
    ("]", "1:1: unexpected right bracket ']'"),
    ("foo[5m]]", "1:8: unexpected right bracket ']'"),
    ("}", "1:1: unexpected character: '}'"),
    # Tokens.
    ("$", "1:1: unexpected character: '$'"),
    ("foo $ bar", "1:5: unexpected character: '$'"),
    ('"é" + é', "1:8: unexpected character: 'é'"),
    ("1 = 1", '1:3: unexpected "="'),
    ("1 =~ 1", "1:3: unexpected character after '=': '~'"),
    ("a !~ b", "1:3: unexpected character after '!': '~'"),
    (".", "1:1: unexpected character: '.'"),
    ("1..2", '1:3: unexpected number ".2"'),
    ("5x", '1:1: bad number or duration syntax: "5"'),
    ("1e5x", '1:1: bad number or duration syntax: "1e5"'),
    ("1e", '1:1: bad number or duration syntax: "1e"'),
    ("0x", '1:1: bad number or duration syntax: "0x"'),
    ("0o17", '1:1: bad number or duration syntax: "0"'),
    ("1.5h", '1:1: bad number or duration syntax: "1.5"'),
    ("1e999", '1:1: error parsing number: strconv.ParseFloat: parsing "1e999": value out of range'),
    ("5m5", '1:1: bad number or duration syntax: "5m5"'),
    ("5m5m", '1:1: not a valid duration string: "5m5m"'),
    ("300y", '1:1: duration out of range: "300y"'),
    ('foo + "ab\\qc"', "1:7: unknown escape sequence U+0071 'q'"),
    ('"\\\'"', "1:1: unknown escape sequence U+0027 '''"),
    ("'\\\"'", "1:1: unknown escape sequence U+0022 '\"'"),
    ('"\\400"', "1:1: escape sequence is an invalid Unicode code point"),
    ('"\\ud800"', "1:1: escape sequence is an invalid Unicode code point"),
    ('"\\U00110000"', "1:1: escape sequence is an invalid Unicode code point"),
    ('"\\x4"', "1:1: illegal character U+0022 '\"' in escape sequence"),
    ('"\\u00zz"', "1:1: illegal character U+007A 'z' in escape sequence"),
    ('"\\08"', "1:1: illegal character U+0038 '8' in escape sequence"),
    # What stands where something else belongs.
    ("a b", '1:3: unexpected identifier "b"'),
    ("a a:b", '1:3: unexpected metric identifier "a:b"'),
    ("1 1", '1:3: unexpected number "1"'),
    ("1 5m", '1:3: unexpected duration "5m"'),
    ('"a" "b"', '1:5: unexpected string "\\"b\\""'),
    ("* 1", "1:1: unexpected <op:*>"),
    ("1 + atan2", "1:5: unexpected <op:atan2>"),
    ("sum sum", "1:5: unexpected <aggr:sum>"),
    ("foo == on(a) bool foo", "1:14: unexpected <bool>"),
    ("foo + group_left(a) foo", "1:7: unexpected <group_left>"),
    ("foo end", '1:5: unexpected "end"'),
    ("foo[5m] start()", '1:9: unexpected "start"'),
    ("foo range", '1:5: unexpected "range"'),
    ("foo\n+\nbar baz", '3:5: unexpected identifier "baz"'),
    ("foo\n  bar", '2:3: unexpected identifier "bar"'),
    # Label matchers.
    ("foo{", "1:5: unexpected end of input inside braces"),
    ('foo{a="b",', "1:11: unexpected end of input inside braces"),
    ('foo{a="b",,}', '1:11: unexpected "," in label matching, expected identifier or "}"'),
    ("foo{,}", '1:5: unexpected "," in label matching, expected identifier or "}"'),
    ('foo{a="b" c="d"}', '1:11: unexpected identifier "c" in label matching, expected "," or "}"'),
    ('foo{a "b"}', '1:7: unexpected string "\\"b\\"" in label matching, expected label matching operator'),
    ("foo{a=b}", '1:7: unexpected identifier "b" in label matching, expected string'),
    ('foo{a=="x"}', '1:7: unexpected "=" in label matching, expected string'),
    ('foo{=~"b"}', '1:5: unexpected <op:=~> in label matching, expected identifier or "}"'),
    ("foo{a=~!=}", "1:8: unexpected <op:!=> in label matching, expected string"),
    ('foo{a="b" !~ c}', '1:11: unexpected <op:!~> in label matching, expected "," or "}"'),
    ('foo{= "b"}', '1:5: unexpected "=" in label matching, expected identifier or "}"'),
    ("foo{a=5}", "1:7: unexpected character inside braces: '5'"),
    ('foo{a:b="x"}', "1:6: unexpected character inside braces: ':'"),
    ('foo{a!x"}', "1:6: unexpected character after '!' inside braces: 'x'"),
    ("foo{a{", "1:6: unexpected left brace '{'"),
    ('foo{a=~"("}', "1:5: error parsing regexp: missing closing ): `^(?s:()$`"),
    ('foo{__name__="bar"}', '1:1: metric name must not be set twice: "foo" or "bar"'),
    ('foo{"bar"}', '1:1: metric name must not be set twice: "foo" or "bar"'),
    ('{"foo", __name__="bar"}', '1:1: metric name must not be set twice: "foo" or "bar"'),
    ("{}", "1:1: vector selector must contain at least one non-empty matcher"),
    ('{a=""}', "1:1: vector selector must contain at least one non-empty matcher"),
    ('{a=~".*",b!~"x"}', "1:1: vector selector must contain at least one non-empty matcher"),
    # Ranges, subqueries, durations.
    ("foo[", "1:5: unclosed left bracket"),
    ("foo[5m", "1:7: unclosed left bracket"),
    ("foo[5m:1m", "1:10: unclosed left bracket"),
    ("foo[]", f'1:5: unexpected "]" in subquery or range selector, {DURATION}'),
    ("foo[5m 1m]", '1:8: unexpected duration "1m" in subquery or range, expected ":" or "]"'),
    ("foo[5m:1m:1m]", "1:10: unexpected colon ':'"),
    ("foo[5m:1m 1m]", '1:11: unexpected duration "1m" in subquery selector, expected "]"'),
    ("foo[x]", "1:5: unexpected character in duration expression: 'x'"),
    ('foo["5m"]', "1:5: unexpected character in duration expression: '\"'"),
    ("foo[(5m]", "1:8: unclosed left parenthesis"),
    ("foo[5m)]", "1:8: unexpected right parenthesis ')'"),
    ("foo[0s]", "1:5: duration must be greater than 0"),
    ("foo[-5m]", "1:5: duration must be greater than 0"),
    ("foo[5m-1h]", "1:5: duration must be greater than 0"),
    ("foo[5m:0s]", "1:8: duration must be greater than 0"),
    ("foo[5m/0]", "1:8: division by zero"),
    ("foo[5m%0]", "1:8: modulo by zero"),
    ("foo[1e300*1e300]", "1:5: duration out of range"),
    ("foo[10^1000]", "1:8: duration out of range"),
    ("foo[inf]", "1:5: unexpected character in duration expression: 'i'"),
    ("(foo)[5m]", "1:6: ranges only allowed for vector selectors"),
    ("foo[5m][5m]", "1:8: ranges only allowed for vector selectors"),
    ("foo offset 5m [5m]", "1:15: no offset modifiers allowed before range"),
    ("foo @ 5 [5m]", "1:9: no @ modifiers allowed before range"),
    ("foo smoothed [5m]", "1:14: no smoothed modifiers allowed before range"),
    ("foo[5m][5m:]", "1:1: subquery is only allowed on instant vector, got matrix instead"),
    ("1[5m:]", "1:1: subquery is only allowed on instant vector, got scalar instead"),
    # offset and @, anchored and smoothed.
    ("foo offset", f"1:11: unexpected end of input in offset, {DURATION}"),
    ("foo offset x", f'1:12: unexpected identifier "x" in offset, {DURATION}'),
    ("foo offset --5m", f"1:13: unexpected <op:-> in offset, {DURATION}"),
    ("foo offset 1h offset 1h", "1:1: offset may not be set multiple times"),
    ("foo[5m] offset 5m offset 5m", "1:1: offset may not be set multiple times"),
    ("1 offset 5m", f"1:1: offset {OPERAND_NEEDED}"),
    ("2 + sum(foo) offset 5m", f"1:5: offset {OPERAND_NEEDED}"),
    ("foo offset (1/0)", "1:15: division by zero"),
    ("foo @", "1:6: unexpected end of input in @, expected timestamp"),
    ("foo @ x", '1:7: unexpected identifier "x" in @, expected timestamp'),
    ("foo @ start", "1:12: unexpected end of input in @, expected timestamp"),
    ("foo @ -", "1:8: unexpected end of input in @, expected timestamp"),
    ("foo @ start(5)", '1:13: unexpected number "5" in @, expected timestamp'),
    ("foo @ 5 @ 5", "1:1: @ <timestamp> may not be set multiple times"),
    ("1 @ 5", f"1:1: @ {OPERAND_NEEDED}"),
    ("foo @ inf", "1:1: timestamp out of bounds for @ modifier: +Inf"),
    ("foo @ 1e30", "1:1: timestamp out of bounds for @ modifier: 1000000000000000019884624838656.000000"),
    ("foo anchored smoothed", "1:1: anchored and smoothed modifiers cannot be used together or twice"),
    ("foo[5m:] anchored", "1:1: anchored modifier is not supported for subqueries"),
    # Aggregations.
    ("sum by", '1:7: unexpected end of input in grouping opts, expected "("'),
    ("sum by a (foo)", '1:8: unexpected identifier "a" in grouping opts, expected "("'),
    ("sum by (a b) (foo)", '1:11: unexpected identifier "b" in grouping opts, expected "," or ")"'),
    ("sum by (1) (foo)", '1:9: unexpected number "1" in grouping opts, expected label'),
    ("sum by (a:b) (foo)", '1:9: unexpected metric identifier "a:b" in grouping opts, expected label'),
    ('sum by ("") (foo)', '1:9: invalid label name for grouping: ""'),
    ("sum by (a) foo", '1:12: unexpected identifier "foo" in aggregation'),
    ("sum without(a) by", "1:16: unexpected <by> in aggregation"),
    ("sum(foo bar)", '1:9: unexpected identifier "bar" in aggregation'),
    ("sum(1 +)", '1:8: unexpected ")" in aggregation'),
    ("sum(,)", '1:5: unexpected "," in aggregation'),
    ("topk(5 foo)", '1:8: unexpected identifier "foo" in aggregation'),
    ("sum(foo by (a)", "1:9: unexpected <by> in aggregation"),
    ("sum(min foo)", '1:9: unexpected identifier "foo" in aggregation'),
    ("sum by (a) (foo 5m)", '1:17: unexpected duration "5m" in aggregation'),
    ("rate(sum((foo end)))", '1:15: unexpected "end" in aggregation'),
    ("1 + sum(abs(foo) bar)", '1:18: unexpected identifier "bar" in aggregation'),
    ("sum(foo * on(a) (bar baz))", '1:22: unexpected identifier "baz" in aggregation'),
    ("sum(foo) bar", '1:10: unexpected identifier "bar"'),
    ("sum(foo) + (bar baz)", '1:17: unexpected identifier "baz"'),
    ("sum(foo) by (a) (bar)", '1:17: unexpected "("'),
    ("abs(sum(foo) bar)", '1:14: unexpected identifier "bar"'),
    ("foo * on(a) (sum(bar) baz)", '1:23: unexpected identifier "baz"'),
    ("sum foo", '1:5: unexpected identifier "foo"'),
    ("sum(foo) by (a", "1:15: unclosed left parenthesis"),
    ("sum()", "1:1: no arguments for aggregate expression provided"),
    ("sum(foo, foo)", "1:1: wrong number of arguments for aggregate expression provided, expected 1, got 2"),
    ("topk(foo)", "1:1: wrong number of arguments for aggregate expression provided, expected 2, got 1"),
    ("sum(1)", "1:5: expected type instant vector in aggregation expression, got scalar"),
    ("topk(foo, foo)", "1:6: expected type scalar in aggregation parameter, got instant vector"),
    ("count_values(1, foo)", "1:14: expected type string in aggregation parameter, got scalar"),
    # Function calls.
    ("foo(bar)", '1:1: unknown function with name "foo"'),
    ("RATE(foo[5m])", '1:1: unknown function with name "RATE"'),
    ("holt_winters(a[5m],.1,.1)", f'1:1: unknown function with name "holt_winters", {RENAMED}'),
    ("rate(foo)", '1:6: expected type range vector in call to function "rate", got instant vector'),
    ("abs(1)", '1:5: expected type instant vector in call to function "abs", got scalar'),
    ("hour(foo, 1)", '1:11: expected type string in call to function "hour", got scalar'),
    ('label_join(foo, "a", "b", 1)', '1:27: expected type string in call to function "label_join", got scalar'),
    ("rate()", '1:1: expected 1 argument(s) in call to "rate", got 0'),
    ("rate(foo[5m],1)", '1:1: expected 1 argument(s) in call to "rate", got 2'),
    ("round()", '1:1: expected at least 1 argument(s) in call to "round", got 0'),
    ("round(foo,1,1)", '1:1: expected at most 2 argument(s) in call to "round", got 3'),
    ("label_join(foo)", '1:1: expected at least 3 argument(s) in call to "label_join", got 1'),
    ("rate(foo[5m],)", "1:13: trailing commas not allowed in function call args"),
    ("sum(foo, )", "1:8: trailing commas not allowed in function call args"),
    ("topk(5,,foo)", "1:7: trailing commas not allowed in function call args"),
    ("abs(foo, * 2)", "1:8: trailing commas not allowed in function call args"),
    ("abs(, foo)", '1:5: unexpected ","'),
    ("(foo,)", '1:5: unexpected ","'),
    ("rate(,)", '1:6: unexpected ","'),
    ("rate(foo[5m] foo[5m])", '1:14: unexpected identifier "foo"'),
    ("info(foo, bar)", "1:11: expected label selectors only, got vector selector instead"),
    ("info(foo, 1)", '1:11: expected type instant vector in call to function "info", got scalar'),
    # Operators.
    ('"a" + 1', "1:1: binary expression must contain only scalar and instant vector types"),
    ("1 + foo[5m]", "1:5: binary expression must contain only scalar and instant vector types"),
    ("1 and foo", '1:1: set operator "and" not allowed in binary scalar expression'),
    ("2 * (1 == 1)", "1:8: comparisons between scalars must use BOOL modifier"),
    ("1 + bool 1", "1:3: bool modifier can only be used on comparison operators"),
    ("(foo) + bool foo", "1:7: bool modifier can only be used on comparison operators"),
    ('-"a"', '1:1: unary expression only allowed on expressions of type scalar or instant vector, got "string"'),
    ("-foo[5m]", '1:1: unary expression only allowed on expressions of type scalar or instant vector, got "range vector"'),
    ("foo and on(a) group_left foo", '1:1: no grouping allowed for "and" operation'),
    ("foo and fill(0) foo", '1:1: filling in missing series not allowed for set operators'),
    ("foo + on(a) group_left(a) foo", '1:5: label "a" must not occur in ON and GROUP clause at once'),
    ("foo + on a foo", '1:10: unexpected identifier "a" in grouping opts, expected "("'),
    ("foo + on(a foo", '1:12: unexpected identifier "foo" in grouping opts, expected "," or ")"'),
    ("foo + on(a) 1", "1:1: vector matching only allowed between instant vectors"),
    ("foo + fill(1) 1", "1:1: filling in missing series only allowed between instant vectors"),
    ("foo + fill(bar) foo", '1:12: unexpected identifier "bar"'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_a_text_that_is_no_query_is_refused_with_its_place_and_reason(text: str, message: str) -> None:
    place, _, reason = message.partition(": ")
    with pytest.raises(ParseError) as caught:
        parse(text, Features.all())
    assert str(caught.value) == f"{place}: parse error: {reason}"
    assert (caught.value.line, caught.value.column) == tuple(map(int, place.split(":")))


NOT_ENABLED = "must be enabled with --enable-feature="

WITHOUT_FEATURES: list[tuple[str, str]] = [
    ("abs(mad_over_time(foo[5m]))", '1:5: function "mad_over_time" is not enabled'),
    ("START()", '1:1: function "start" is not enabled'),
    ("start_timestamp(foo)", '1:1: function "start_timestamp" is not enabled'),
    ("limitk(1, foo)", f"1:1: limitk() is experimental and {NOT_ENABLED}promql-experimental-functions"),
    ("1 + limit_ratio(1, foo)", f"1:5: limit_ratio() is experimental and {NOT_ENABLED}promql-experimental-functions"),
    ("foo + fill(0) foo", f"1:5: fill modifiers are experimental and {NOT_ENABLED}promql-binop-fill-modifiers"),
    ("rate(foo[5m] smoothed)", f"1:6: smoothed modifier is experimental and {NOT_ENABLED}promql-extended-range-selectors"),
    ("foo anchored", f"1:1: anchored modifier is experimental and {NOT_ENABLED}promql-extended-range-selectors"),
]


@pytest.mark.parametrize(("text", "message"), WITHOUT_FEATURES)
def test_what_is_experimental_says_how_to_switch_it_on(text: str, message: str) -> None:
    place, _, reason = message.partition(": ")
    with pytest.raises(ParseError) as caught:
        parse(text, Features())
    assert str(caught.value) == f"{place}: parse error: {reason}"
    parse(text, Features.all())


@pytest.mark.parametrize("text", ["foo[5m+1m]", "foo offset (step())", "foo[step():]", "foo[5m:range()]", "foo[5m] offset -step()"])
def test_duration_expressions_can_be_switched_off(text: str) -> None:
    with pytest.raises(ParseError, match="experimental duration expression is not enabled"):
        parse(text, Features(promql_duration_expr=False))
    parse("foo[300] offset -5m", Features(promql_duration_expr=False))
