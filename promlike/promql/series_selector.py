"""The text of a series selector, as `match[]` takes it, to matchers."""

from lark import Token

from promlike.errors import BadRequest, ParseError
from promlike.model.labels import METRIC_NAME
from promlike.model.matchers import Matcher, MatchOp
from promlike.promql.ast import VectorSelector
from promlike.promql.check import EMPTY_SELECTOR
from promlike.promql.lexer import tokens
from promlike.promql.options import Features
from promlike.promql.parser import parse
from promlike.promql.position import SyntaxProblem, position
from promlike.promql.unexpected import token_name

_NO_NAME = frozenset(
    {
        "NUMBER",
        "STRING",
        "DURATION",
        "LEFT_PAREN",
        "COMMA",
        "SIGN",
        "ARITHMETIC",
        "COMPARISON",
        "AT",
        "EQUALS",
        "LEFT_BRACKET",
        "LEFT_BRACE",
    }
)


def series_selector(text: str) -> tuple[Matcher, ...]:
    """All conditions of a series selector, its name included; none for `{}`. Raise BadRequest for any other text."""
    token = _first_beyond(text)
    if token is not None:
        line, column = position(text, token.start_pos or 0)
        raise ParseError(f"unexpected {token_name(token)}", line=line, column=column)
    try:
        selector = parse(text, Features())
    except ParseError as error:
        if error.message == EMPTY_SELECTOR:
            return ()
        raise
    if not isinstance(selector, VectorSelector):
        raise BadRequest(f"{text!r} is not a series selector")
    if selector.name is None:
        return selector.matchers
    return (Matcher(METRIC_NAME, MatchOp.EQUAL, selector.name), *selector.matchers)


def _first_beyond(text: str) -> Token | None:
    """The first token that is no part of `name{…}`; None where there is none, or where the parser says better what is wrong."""
    in_braces = braces_seen = name_seen = False
    try:
        for token in tokens(text):
            if in_braces:
                in_braces = token.type != "RIGHT_BRACE"
            elif token.type == "LEFT_BRACE" and not braces_seen:
                in_braces = braces_seen = True
            elif name_seen or braces_seen or token.type in _NO_NAME:
                return token
            else:
                name_seen = True
    except SyntaxProblem:
        return None
    return None if name_seen or braces_seen else Token("$END", "", start_pos=len(text))
