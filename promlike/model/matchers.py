"""Label matchers: `=`, `!=`, `=~`, `!~` with RE2, fully anchored, dot matching newline."""

from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

import re2  # type: ignore[import-untyped]  # google-re2 ships no type information

from promlike.errors import BadRequest
from promlike.model.labels import quote


class MatchOp(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


_REASONS = {
    "missing ]": "missing closing ]",
    "missing )": "missing closing )",
    "trailing \\": "trailing backslash at end of expression",
    "no argument for repetition operator": "missing argument to repetition operator",
    "invalid repetition size": "invalid repeat count",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid named capture group": "invalid named capture",
}
"""What RE2 calls a fault and Go calls otherwise."""


@lru_cache(maxsize=4096)
def compile_regex(pattern: str) -> "re2._Regexp":
    """An RE2 pattern that must match the whole value; raise BadRequest in Prometheus's words when it does not compile."""
    try:
        return re2.compile(pattern, _options())
    except re2.error as error:
        raise BadRequest(f"error parsing regexp: {_fault(pattern)}") from error


def _options() -> "re2.Options":
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    return options


def _fault(pattern: str) -> str:
    """What is wrong and where: said of the expression as Prometheus anchors it, unless that happens to be a good one."""
    for tried in (f"^(?s:{pattern})$", pattern):
        try:
            re2.compile(tried, _options())
        except re2.error as error:
            text = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else str(error)
            fault, colon, place = text.partition(": ")
            return f"{_REASONS.get(fault, fault)}: `{place}`" if colon else _REASONS.get(fault, fault)
    return f"`{pattern}`"


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label. An absent label has the value "". Regular expressions are compiled, so checked, here."""

    name: str
    op: MatchOp
    value: str
    _regex: object = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.op in (MatchOp.REGEX, MatchOp.NOT_REGEX):
            object.__setattr__(self, "_regex", compile_regex(self.value))

    def matches(self, value: str) -> bool:
        """Does this value (\"\" when the label is absent) satisfy the condition?"""
        if self.op is MatchOp.EQUAL:
            return value == self.value
        if self.op is MatchOp.NOT_EQUAL:
            return value != self.value
        found = self._regex.fullmatch(value) is not None  # type: ignore[attr-defined]  # an untyped RE2 object
        return found is (self.op is MatchOp.REGEX)

    @property
    def matches_empty(self) -> bool:
        """Does a series without the label satisfy the condition?"""
        return self.matches("")

    def __str__(self) -> str:
        return f"{self.name}{self.op}{quote(self.value)}"
