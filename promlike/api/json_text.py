"""JSON as Prometheus writes it."""

import orjson

_ESCAPES = tuple((char.encode(), f"\\u{ord(char):04x}".encode()) for char in "<>&")
_LINE_ESCAPES = tuple((char.encode(), f"\\u{ord(char):04x}".encode()) for char in "\u2028\u2029")


def to_json(data: object) -> bytes:
    """Safe inside HTML: `<`, `>`, `&` and the two line separators of Unicode are escaped, as Go's library does."""
    text = orjson.dumps(data)
    # Replacing is three times as fast as one regular expression; what is ASCII, as nearly everything is, has no such separators.
    for char, escape in _ESCAPES if text.isascii() else (*_ESCAPES, *_LINE_ESCAPES):
        text = text.replace(char, escape)
    return text
