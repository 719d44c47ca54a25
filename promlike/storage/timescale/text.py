"""Text as PostgreSQL can keep it: the one character it refuses, U+0000, is legal in label values and help texts."""

import re

ESCAPE = "\ufdd0"
"""A noncharacter: no text that means anything holds it."""

_ESCAPED = re.compile(f"{ESCAPE}([01])")


def storable(text: str) -> str:
    """The text without U+0000; `original` gives it back."""
    if "\0" not in text and ESCAPE not in text:
        return text
    return text.replace(ESCAPE, f"{ESCAPE}1").replace("\0", f"{ESCAPE}0")


def original(text: str) -> str:
    """What `storable` was given."""
    return _ESCAPED.sub(lambda found: "\0" if found[1] == "0" else ESCAPE, text)
