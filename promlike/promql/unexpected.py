"""What a token that fits nowhere is called, in Prometheus's words."""

from lark import Token, UnexpectedToken

from promlike.model.labels import quote

_KINDS = {
    "IDENTIFIER": "identifier",
    "METRIC": "metric identifier",
    "STRING": "string",
    "NUMBER": "number",
    "DURATION": "duration",
}
_OPERATORS = frozenset({"SIGN", "ARITHMETIC", "COMPARISON", "SET_OPERATOR", "ATAN2"})
_KEYWORDS = frozenset({"BY", "OFFSET", "START_END", "STEP_RANGE", "MIN_MAX", "EXTENDED", "BOOL", "ON", "GROUP", "FILL"})
_NAMES = frozenset({"IDENTIFIER", "AGGREGATION", "BY"})
_DURATION = "number, duration, step(), or range()"


def describe(error: UnexpectedToken, text: str) -> tuple[str, int]:
    """The message, and the character offset it speaks of."""
    token = error.token
    expected = frozenset(error.accepts or error.expected)
    offset = len(text) if token.type == "$END" else token.start_pos or 0
    before = [value for value in error.interactive_parser.parser_state.value_stack if isinstance(value, Token)]
    if token.type == "$END" and not before and len(error.interactive_parser.parser_state.value_stack) == 0:
        return "no expression found in input", 0
    if token.type == "RIGHT_PAREN" and before and before[-1].type == "COMMA" and "LEFT_BRACE" in expected:
        return "trailing commas not allowed in function call args", before[-1].start_pos or 0
    return f"unexpected {_name(token)}{_context(expected, before[-1] if before else None)}", offset


def _name(token: Token) -> str:
    if token.type == "$END":
        return "end of input"
    if token.type in _KINDS:
        return f"{_KINDS[token.type]} {quote(token)}"
    if token.type in _OPERATORS:
        return f"<op:{token}>"
    if token.type == "AGGREGATION":
        return f"<aggr:{token}>"
    if token.type in _KEYWORDS:
        return f"<{token}>"
    return quote(token)


def _context(expected: frozenset[str], before: Token | None) -> str:
    """Where the parser stood, read off what it would have taken."""
    if expected == {"MATCH"}:
        return " in label matching, expected label matching operator"
    if before is not None and before.type == "MATCH":
        return " in label matching, expected string"
    if "RIGHT_BRACE" in expected:
        return ' in label matching, expected "," or "}"' if "STRING" not in expected else ' in label matching, expected identifier or "}"'
    if before is not None and before.type == "OFFSET" and "DURATION" in expected and "LEFT_BRACE" not in expected:
        return f" in offset, expected {_DURATION}"
    if before is not None and before.type == "AT" and "LEFT_BRACE" not in expected:
        return " in @, expected timestamp"
    if "RIGHT_BRACKET" in expected:
        if "COLON" in expected:
            return ' in subquery or range, expected ":" or "]"'
        return f' in subquery selector, expected {"duration or " if "DURATION" in expected else ""}"]"'
    if "DURATION" in expected and "LEFT_BRACE" not in expected:
        return f" in subquery or range selector, expected {_DURATION}"
    if "BOOL" in expected and "IDENTIFIER" in expected and "LEFT_BRACE" not in expected:
        return " in grouping opts, expected label"
    return ""
