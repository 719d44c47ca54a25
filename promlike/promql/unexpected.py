"""What a token that fits nowhere is called, in Prometheus's words."""

from collections.abc import Sequence

from lark import Token, UnexpectedToken

from promlike.model.labels import quote
from promlike.promql.tree.parts import Labels

_NAMES = {"IDENTIFIER": "identifier", "METRIC": "metric identifier"}
_LITERALS = {"STRING": "string", "NUMBER": "number", "DURATION": "duration"}
_SHOWN = 10
"""Of literals so many characters stand in a message; names stand there whole."""
_OPERATORS = frozenset({"SIGN", "ARITHMETIC", "COMPARISON", "SET_OPERATOR", "ATAN2"})
_KEYWORDS = frozenset({"BY", "OFFSET", "MIN_MAX", "EXTENDED", "BOOL", "ON", "GROUP", "FILL"})
"""`start`, `end`, `step` and `range` are none to Prometheus, and stand in quotes."""
_DURATION = "number, duration, step(), or range()"


def describe(error: UnexpectedToken, text: str) -> tuple[str, int]:
    """The message, and the character offset it speaks of."""
    token, expected = error.token, frozenset(error.accepts or error.expected)
    stack: Sequence[object] = error.interactive_parser.parser_state.value_stack
    last = stack[-1] if stack else None
    if token.type == "$END" and not stack:
        return "no expression found in input", 0
    if isinstance(last, Token) and last.type == "COMMA" and "LEFT_BRACE" in expected:  # whatever follows that is no argument
        return "trailing commas not allowed in function call args", last.start_pos or 0
    offset = len(text) if token.type == "$END" else token.start_pos or 0
    if token.type == "COLON" and "RIGHT_BRACKET" in expected:
        return "unexpected colon ':'", offset
    if _in_at(stack, expected):
        return f"unexpected {token_name(token)} in @, expected timestamp", offset
    context = _context(expected, last) or (" in aggregation" if _in_aggregation(stack) else "")
    return f"unexpected {token_name(token)}{context}", offset


def _in_at(stack: Sequence[object], expected: frozenset[str]) -> bool:
    """Does the parser stand behind an @, its sign, or inside `start()`?"""
    kinds = [item.type if isinstance(item, Token) else "" for item in stack[-3:]]
    if "AT" not in kinds:
        return False
    return kinds[-1] == "AT" or (kinds[-2] == "AT" and kinds[-1] in ("SIGN", "START_END")) or expected == {"RIGHT_PAREN"}


def _in_aggregation(stack: Sequence[object]) -> bool:
    """Does the parser stand among the arguments of an aggregation, however deep?"""
    kinds = [item.type if isinstance(item, Token) else "" for item in stack]
    closed = 0
    for at in range(len(kinds) - 1, 0, -1):
        if kinds[at] == "RIGHT_PAREN":
            closed += 1
        elif kinds[at] == "LEFT_PAREN" and closed:
            closed -= 1
        elif kinds[at] == "LEFT_PAREN" and (kinds[at - 1] == "AGGREGATION" or kinds[max(at - 3, 0) : at - 1] == ["AGGREGATION", "BY"]):
            return True
    return False


def token_name(token: Token) -> str:
    if token.type == "$END":
        return "end of input"
    if token.type in _NAMES:
        return f"{_NAMES[token.type]} {quote(str(token))}"
    if token.type in _LITERALS:
        return f"{_LITERALS[token.type]} {quote(token[:_SHOWN])}{'...' if len(token) > _SHOWN else ''}"
    if token.type in _OPERATORS or (token.type == "MATCH" and token != "="):
        return f"<op:{token}>"
    if token.type == "AGGREGATION":
        return f"<aggr:{token}>"
    if token.type in _KEYWORDS:
        return f"<{token}>"
    return quote(str(token))


def _context(expected: frozenset[str], last: object) -> str:
    """Where the parser stood, read off what it would have taken and what it took last."""
    before = last.type if isinstance(last, Token) else ""
    if "LEFT_BRACE" in expected:  # an operand was due: Prometheus names no nearer place
        return ""
    if expected == {"LEFT_PAREN"}:
        return " in aggregation" if isinstance(last, Labels) else ' in grouping opts, expected "("'
    if expected == {"COMMA", "RIGHT_PAREN"}:
        return ' in grouping opts, expected "," or ")"'
    if {"BOOL", "IDENTIFIER"} <= expected:
        return " in grouping opts, expected label"
    return _label_matching(expected, before) or _duration(expected, before)


def _label_matching(expected: frozenset[str], before: str) -> str:
    if expected == {"MATCH"}:
        return " in label matching, expected label matching operator"
    if before == "MATCH":
        return " in label matching, expected string"
    if "RIGHT_BRACE" not in expected:
        return ""
    wanted = 'identifier or "}"' if "STRING" in expected else '"," or "}"'
    return f" in label matching, expected {wanted}"


def _duration(expected: frozenset[str], before: str) -> str:
    if before == "OFFSET" or ("DURATION" in expected and "SIGN" not in expected):  # an offset takes one sign, ranges take any
        return f" in offset, expected {_DURATION}"
    if "COLON" in expected:
        return ' in subquery or range, expected ":" or "]"'
    if "RIGHT_BRACKET" in expected:
        return f' in subquery selector, expected {"duration or " if "DURATION" in expected else ""}"]"'
    if "DURATION" in expected:
        return f" in subquery or range selector, expected {_DURATION}"
    return ""
