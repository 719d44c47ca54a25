"""Text to tokens. PromQL has few reserved words, so what a word is depends on what stands beside it."""

import re
from collections.abc import Iterator

from lark import Token
from lark.lexer import Lexer

from promlike.model.labels import quote
from promlike.promql.aggregations import AGGREGATIONS
from promlike.promql.literals import DURATION_TEXT
from promlike.promql.position import SyntaxProblem

MAX_NESTING = 500
"""How many parentheses may be open at once."""

MAX_OPERATORS = 10_000
"""How many operators and signs a text may have."""

_END = "\ufffd"
"""What Prometheus's messages show for a character behind the end."""

_SPACE = r"(?P<SPACE>[ \t\r\n]+|\#[^\r\n]*)"
_STRING = r"""(?P<STRING>"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*'|`[^`]*`)"""
_NUMBER = r"(?P<NUMBER>0[xX][0-9a-fA-F_]*|[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9]*)?|\.[0-9][0-9_]*(?:[eE][+-]?[0-9]*)?)"

_OUTSIDE = re.compile(
    rf"""{_SPACE}
    |(?P<WORD>[a-zA-Z_:][a-zA-Z0-9_:]*)
    |{_NUMBER}
    |{_STRING}
    |(?P<COMPARISON>==|!=|<=|>=|</|>/|[<>])
    |(?P<SIGN>[+-])
    |(?P<ARITHMETIC>[*/%^])
    |(?P<COMMA>,)|(?P<LEFT_PAREN>\()|(?P<RIGHT_PAREN>\))|(?P<LEFT_BRACE>\{{)|(?P<LEFT_BRACKET>\[)
    |(?P<AT>@)|(?P<EQUALS>=(?![~]))""",
    re.VERBOSE | re.ASCII,
)
_IN_BRACES = re.compile(
    rf"""{_SPACE}
    |(?P<IDENTIFIER>[a-zA-Z_][a-zA-Z0-9_]*)
    |{_STRING}
    |(?P<MATCH>=~|!~|!=|=)
    |(?P<COMMA>,)|(?P<RIGHT_BRACE>\}})""",
    re.VERBOSE | re.ASCII,
)
_IN_BRACKETS = re.compile(
    rf"""{_SPACE}
    |(?P<WORD>[a-zA-Z_][a-zA-Z0-9_]*)
    |{_NUMBER}
    |(?P<SIGN>[+-])
    |(?P<ARITHMETIC>[*/%^])
    |(?P<COMMA>,)|(?P<LEFT_PAREN>\()|(?P<RIGHT_PAREN>\))|(?P<COLON>:)|(?P<RIGHT_BRACKET>\])""",
    re.VERBOSE | re.ASCII,
)

_KEYWORDS = {
    **dict.fromkeys(AGGREGATIONS, "AGGREGATION"),
    **dict.fromkeys(("by", "without"), "BY"),
    **dict.fromkeys(("and", "or", "unless"), "SET_OPERATOR"),
    **dict.fromkeys(("start", "end"), "START_END"),
    **dict.fromkeys(("step", "range"), "STEP_RANGE"),
    **dict.fromkeys(("min_of", "max_of"), "MIN_MAX"),
    **dict.fromkeys(("anchored", "smoothed"), "EXTENDED"),
    **dict.fromkeys(("on", "ignoring"), "ON"),
    **dict.fromkeys(("group_left", "group_right"), "GROUP"),
    **dict.fromkeys(("fill", "fill_left", "fill_right"), "FILL"),
    **dict.fromkeys(("inf", "nan"), "NUMBER"),
    "atan2": "ATAN2",
    "bool": "BOOL",
    "offset": "OFFSET",
}

_OPERATORS = frozenset({"COMPARISON", "SIGN", "ARITHMETIC", "SET_OPERATOR", "ATAN2"})
_BRACKETS = frozenset({"LEFT_PAREN", "RIGHT_PAREN", "LEFT_BRACE", "RIGHT_BRACE", "LEFT_BRACKET", "RIGHT_BRACKET"})
_BEFORE_OPERAND = _OPERATORS | {"", "LEFT_PAREN", "COMMA"}
_LIKE_DURATION = re.compile(r"[0-9]+(?:(?:ms|[smhdwy])[0-9]*)*")
_ENDS_OPERAND = re.compile(r"(?:[ \t\r\n]+|\#[^\r\n]*)*+(?:\Z|[)\]},*/%^=!<>@\[])")
_ENDS_MATCHING_NAME = re.compile(r"(?:[ \t\r\n]+|\#[^\r\n]*)*+(?:\Z|[)\]},*/%^=!<>@\[{+-])")
_OPENS_PAREN = re.compile(r"(?:[ \t\r\n]+|\#[^\r\n]*)*+\(")


class PromLexer(Lexer):
    """Lark's interface to `tokens`."""

    def __init__(self, lexer_conf: object) -> None:
        """Lark's configuration of terminals is of no use here."""

    def lex(self, data: str) -> Iterator[Token]:  # type: ignore[override]  # Lark calls lexers of this form with the text alone
        return tokens(data)


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a query, of the terminals of grammar.lark. Raise SyntaxProblem where the text has none, or parentheses do not pair."""
    return _Scanner(text).tokens()


class _Scanner:
    """One pass over a text. `pattern` is the one of the brackets the scanner is in, `depth` counts open parentheses."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pattern = _OUTSIDE
        self.depth = 0
        self.depth_at_bracket = 0
        self.operators = 0

    def tokens(self) -> Iterator[Token]:
        text, offset, previous = self.text, 0, ""
        while offset < len(text):
            match = self.pattern.match(text, offset)
            if match is None:
                raise self.no_token(offset)
            kind, start, offset = match.lastgroup or "", offset, match.end()
            if kind == "SPACE":
                continue
            if kind == "WORD":
                kind = self.word(start, offset, previous)
            elif kind == "NUMBER":
                kind, offset = _number(text, start, offset)
            if kind in _OPERATORS:
                self.count_operator(start)
            elif kind in _BRACKETS:
                self.enter_or_leave(kind, start)
            previous = kind
            yield Token(kind, text[start:offset], start_pos=start, end_pos=offset)
        self.check_all_closed()

    def word(self, start: int, end: int, previous: str) -> str:
        kind = _word(self.text, start, end, previous)
        if self.pattern is _IN_BRACKETS and kind not in ("STEP_RANGE", "MIN_MAX"):
            raise SyntaxProblem(f"unexpected character in duration expression: '{self.text[start]}'", start)
        return kind

    def count_operator(self, start: int) -> None:
        self.operators += 1
        if self.operators > MAX_OPERATORS:
            raise SyntaxProblem(f"more than {MAX_OPERATORS} operators", start)

    def enter_or_leave(self, kind: str, start: int) -> None:
        if kind == "LEFT_PAREN":
            self.depth += 1
            if self.depth > MAX_NESTING:
                raise SyntaxProblem(f"more than {MAX_NESTING} parentheses are open", start)
        elif kind == "RIGHT_PAREN":
            self.depth -= 1
            if self.depth < (self.depth_at_bracket if self.pattern is _IN_BRACKETS else 0):
                raise SyntaxProblem("unexpected right parenthesis ')'", start + 1)  # where Prometheus reports it
        elif kind == "LEFT_BRACE":
            self.pattern = _IN_BRACES
        elif kind == "LEFT_BRACKET":
            self.pattern, self.depth_at_bracket = _IN_BRACKETS, self.depth
        else:
            if self.pattern is _IN_BRACKETS and self.depth != self.depth_at_bracket:
                raise SyntaxProblem("unclosed left parenthesis", start)
            self.pattern = _OUTSIDE

    def check_all_closed(self) -> None:
        for still_open, message in (
            (self.pattern is _IN_BRACES, "unexpected end of input inside braces"),
            (self.pattern is _IN_BRACKETS, "unclosed left bracket"),
            (self.depth > 0, "unclosed left parenthesis"),
        ):
            if still_open:
                raise SyntaxProblem(message, len(self.text))

    def no_token(self, offset: int) -> SyntaxProblem:
        char, following = self.text[offset], self.text[offset + 1 : offset + 2]
        if self.pattern is _IN_BRACKETS:
            return SyntaxProblem(f"unexpected character in duration expression: {_rune(char)}", offset)
        if char in "\"'":
            return SyntaxProblem("unterminated quoted string", offset)
        if char == "`":
            return SyntaxProblem("unterminated raw string", offset)
        if self.pattern is _IN_BRACES:
            if char == "!":
                return SyntaxProblem(f"unexpected character after '!' inside braces: {_rune(following or _END)}", offset)
            if char == "{":
                return SyntaxProblem("unexpected left brace '{'", offset)
            return SyntaxProblem(f"unexpected character inside braces: {_rune(char)}", offset)
        if char in "=!":
            return SyntaxProblem(f"unexpected character after '{char}': {_rune(following or _END)}", offset)
        if char == "]":
            return SyntaxProblem("unexpected right bracket ']'", offset)
        return SyntaxProblem(f"unexpected character: {_rune(char)}", offset)


def _rune(char: str) -> str:
    """A character as Go quotes one."""
    return "'" + (char if char == '"' else "\\'" if char == "'" else quote(char)[1:-1]) + "'"


def _word(text: str, start: int, end: int, previous: str) -> str:
    """The terminal of a word. Modifiers of operators are names where no modifier can stand, so that metrics may be called so."""
    kind = _KEYWORDS.get(text[start:end].lower())
    if kind is None:
        return "METRIC" if ":" in text[start:end] else "IDENTIFIER"
    if kind == "FILL":
        return "FILL" if _OPENS_PAREN.match(text, end) else "IDENTIFIER"
    if kind in ("ON", "GROUP"):
        return "IDENTIFIER" if previous in _BEFORE_OPERAND and _ENDS_MATCHING_NAME.match(text, end) else kind
    if kind == "BOOL" and previous in _BEFORE_OPERAND:
        return "BOOL" if previous in _OPERATORS and not _ENDS_OPERAND.match(text, end) else "IDENTIFIER"
    return kind


def _number(text: str, start: int, end: int) -> tuple[str, int]:
    """NUMBER or DURATION, and where it ends."""
    if end < len(text) and (text[end].isalnum() or text[end] == "_"):
        match = DURATION_TEXT.match(text, start)
        if match is None or text[match.end() : match.end() + 1].isalnum():
            tried = _LIKE_DURATION.match(text, start)
            end = max(end, tried.end() if tried is not None else end)
            raise SyntaxProblem(f'bad number or duration syntax: "{text[start:end]}"', start)
        return "DURATION", match.end()
    return "NUMBER", end
