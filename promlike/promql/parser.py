"""PromQL text to a checked syntax tree."""

import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from typing import cast

from lark import Lark, UnexpectedToken

from promlike.errors import ParseError
from promlike.promql.ast import Expr
from promlike.promql.check import check
from promlike.promql.lexer import PromLexer
from promlike.promql.options import Features
from promlike.promql.position import SyntaxProblem, position
from promlike.promql.tree import Builder
from promlike.promql.tree.parts import MAX_DEPTH, Built
from promlike.promql.unexpected import describe

CACHED_QUERIES = 4096
CACHED_TEXT = 16 << 10
"""Longer texts are not kept in the cache."""

_FRAMES_PER_LEVEL = 8


def parse(text: str, features: Features) -> Expr:
    """The tree of a query, checked. Equal texts give the same tree.

    Raise ParseError with line and column, in Prometheus's words. Trees have at most MAX_DEPTH levels; the first call raises Python's
    recursion limit so far that every walk over such a tree ends.
    """
    return _cached(text, features) if len(text) <= CACHED_TEXT else _parse(text, features)


@lru_cache(maxsize=CACHED_QUERIES)
def _cached(text: str, features: Features) -> Expr:
    return _parse(text, features)


def _parse(text: str, features: Features) -> Expr:
    try:
        expr = _parser()(text).expr
        check(expr, text, features)
    except UnexpectedToken as error:
        message, offset = describe(error, text)
    except SyntaxProblem as problem:
        message, offset = problem.message, problem.offset
    else:
        return expr
    line, column = position(text, offset)
    raise ParseError(message, line=line, column=column)


@lru_cache(maxsize=1)
def _parser() -> Callable[[str], Built]:
    sys.setrecursionlimit(max(sys.getrecursionlimit(), MAX_DEPTH * _FRAMES_PER_LEVEL))
    grammar = files("promlike.promql").joinpath("grammar.lark").read_text("utf-8")
    lark = Lark(grammar, parser="lalr", lexer=PromLexer, transformer=Builder(), maybe_placeholders=False)
    return cast(Callable[[str], Built], lark.parse)  # the transformer returns what its start rule returns
