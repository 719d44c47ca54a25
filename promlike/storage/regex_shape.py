"""What a regular expression says plainly: a choice of literal texts, each complete, or followed by anything.

Most matchers of dashboards are of this kind (`a|b|c`, `node_.*`, `(get|post)_.+`), and answering them by look-up or prefix saves running
RE2 on every value of a label.
"""

from dataclasses import dataclass
from functools import lru_cache

MOST_LITERALS = 2000

_META = set(".+*?()[]{}|^$\\")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegexShape:
    """The pattern matches exactly `literals`, and every text that begins with one of `prefixes`, or, of `longer`, goes on after it.

    "Anything" includes newlines, as in all matchers.
    """

    literals: frozenset[str]
    prefixes: tuple[str, ...]
    longer: tuple[str, ...]

    def matches(self, value: str) -> bool:
        return (
            value in self.literals
            or value.startswith(self.prefixes)
            or any(len(value) > len(prefix) and value.startswith(prefix) for prefix in self.longer)
        )


class _NotPlain(Exception):
    """The pattern needs a regular expression engine."""


_Texts = list[tuple[str, str]]


@lru_cache(maxsize=4096)
def regex_shape(pattern: str) -> RegexShape | None:
    """The shape of a valid pattern, or None when it is not plain."""
    try:
        texts, at = _alternatives(pattern, 0)
    except _NotPlain:
        return None
    if at != len(pattern):
        return None
    return RegexShape(
        literals=frozenset(text for text, tail in texts if not tail),
        prefixes=tuple(text for text, tail in texts if tail == ".*"),
        longer=tuple(text for text, tail in texts if tail == ".+"),
    )


def _alternatives(pattern: str, at: int) -> tuple[_Texts, int]:
    texts: _Texts = []
    while True:
        more, at = _sequence(pattern, at)
        texts += more
        if len(texts) > MOST_LITERALS:
            raise _NotPlain
        if at < len(pattern) and pattern[at] == "|":
            at += 1
            continue
        return texts, at


def _sequence(pattern: str, at: int) -> tuple[_Texts, int]:
    texts: _Texts = [("", "")]
    while at < len(pattern) and pattern[at] not in "|)":
        more, at = _atom(pattern, at)
        if any(tail for _, tail in texts) or len(texts) * len(more) > MOST_LITERALS:
            raise _NotPlain  # something follows the open end
        if at < len(pattern) and pattern[at] in "*+?{":
            raise _NotPlain
        texts = [(head + text, tail) for head, _ in texts for text, tail in more]
    return texts, at


def _atom(pattern: str, at: int) -> tuple[_Texts, int]:
    char = pattern[at]
    if char == "(":
        inside = at + 3 if pattern.startswith("(?:", at) else at + 1
        if pattern.startswith("?", inside):
            raise _NotPlain
        texts, end = _alternatives(pattern, inside)
        if end >= len(pattern):
            raise _NotPlain
        return texts, end + 1
    if char == "." and pattern[at + 1 : at + 2] in ("*", "+") and pattern[at + 2 : at + 3] != "?":
        return [("", pattern[at : at + 2])], at + 2
    if char == "\\" and at + 1 < len(pattern) and (pattern[at + 1] in _META or pattern[at + 1] in "-/\"'"):
        return [(pattern[at + 1], "")], at + 2
    if char in _META:
        raise _NotPlain
    return [(char, "")], at + 1
