"""The language of Prometheus's engine tests: text to commands."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from promlike.errors import BadRequest
from promlike.model.blocks import STALE_NAN
from promlike.model.durations import parse_duration
from promlike.model.labels import Labels, valid_utf8
from promlike.model.labels import labels as sorted_labels
from promlike.promql import literals
from promlike.promql.position import SyntaxProblem


class TestSyntaxError(Exception):
    """A test file that is not in the language."""

    __test__ = False


Sequence = list[float | None]
"""Values at consecutive times; None where there is no sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSeries:
    """One line of `load`. `starts`: the times at which counters started, relative to each sample, in ms."""

    labels: Labels
    values: Sequence
    starts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    line: int
    interval_ms: int
    series: list[LoadedSeries]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clear:
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """`expect warn msg: …`; without text any text will do."""

    kind: str
    text: str | None = None
    is_regex: bool = False

    def matches(self, actual: str) -> bool:
        if self.text is None:
            return True
        return re.search(self.text, actual) is not None if self.is_regex else self.text == actual.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    start_ms: int
    end_ms: int
    step_ms: int


@dataclass(slots=True, kw_only=True)
class Eval:
    """An evaluation; `grid` None: instant at `at_ms`."""

    line: int
    query: str
    at_ms: int = 0
    grid: Grid | None = None
    expectations: list[Expectation] = field(default_factory=list)
    scalar: float | None = None
    string: str | None = None
    range_vector: Grid | None = None
    series: list[tuple[Labels, Sequence]] = field(default_factory=list)

    def expects(self, kind: str) -> list[Expectation]:
        return [expectation for expectation in self.expectations if expectation.kind == kind]


Command = Load | Clear | Eval

_LOAD = re.compile(r"load(?:_with_nhcb)?\s+(\S+)")
_INSTANT = re.compile(r"eval(?:_(fail|warn|info|ordered))?\s+instant\s+at\s+(\S+)\s+(.+)")
_RANGE = re.compile(r"eval(?:_(fail|warn|info))?\s+range\s+from\s+(\S+)\s+to\s+(\S+)\s+step\s+(\S+)\s+(.+)")
_EXPECT = re.compile(r"expect\s+(fail|warn|info|no_warn|no_info|ordered)(?:\s+(msg|regex):\s*(.*))?")
_EXPECT_STRING = re.compile(r"expect\s+string\s+(.+)")
_EXPECT_RANGE_VECTOR = re.compile(r"expect\s+range\s+vector\s+from\s+(\S+)\s+to\s+(\S+)\s+step\s+(\S+)")
_OLD_FAIL = re.compile(r"expected_fail_(message|regexp)\s+(.+)")
_QUOTED = r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`[^`]*`'
_METRIC = re.compile(rf"([a-zA-Z_:][\w:]*)?\s*(?:\{{((?:{_QUOTED}|[^}}\"'`])*)\}})?(@st)?(?=\s|$)")
_PAIR: Final = re.compile(rf"\s*(?:({_QUOTED})|([a-zA-Z_]\w*))\s*(?:=\s*({_QUOTED}))?\s*(?:,|$)")
_NUMBER = r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|(?i:inf|nan))"
_STEPS = re.compile(rf"({_NUMBER})(?:([+-]{_NUMBER[5:]}))?(?:x(\d+))?")
_START = re.compile(r"([+-]?(?:\d+(?:ms|[smhd])|0))(?:([+-]\d+(?:ms|[smhd])))?(?:x(\d+))?")


def parse_test(text: str) -> list[Command]:
    """Every command of a test file. Comments count as empty lines, which end a command, as in Prometheus."""
    lines = [line.strip() for line in text.splitlines()]
    lines = ["" if line.startswith("#") else line for line in lines]
    return list(_commands(lines))


def _commands(lines: list[str]) -> Iterator[Command]:
    at = 0
    while at < len(lines):
        line, number = lines[at], at + 1
        at += 1
        if not line:
            continue
        body = []
        if line != "clear":
            while at < len(lines) and lines[at]:
                body.append(lines[at])
                at += 1
        try:
            yield _command(line, number, body)
        except (ValueError, BadRequest) as error:
            raise TestSyntaxError(f"line {number}: {error}") from error


def _command(line: str, number: int, body: list[str]) -> Command:
    if line == "clear":
        return Clear(line=number)
    load = _LOAD.fullmatch(line)
    if load:
        # load_with_nhcb also adds native histograms made of the buckets, which nothing reads yet; the buckets are loaded alike.
        return Load(line=number, interval_ms=time_ms(load[1]), series=[_loaded(text) for text in body])
    found = _INSTANT.fullmatch(line)
    if found:
        evaluation = Eval(line=number, query=found[3], at_ms=time_ms(found[2]))
    else:
        found = _RANGE.fullmatch(line)
        if not found:
            raise ValueError(f"unknown command {line!r}")
        grid = Grid(start_ms=time_ms(found[2]), end_ms=time_ms(found[3]), step_ms=time_ms(found[4]))
        evaluation = Eval(line=number, query=found[5], grid=grid)
    if found[1]:
        evaluation.expectations.append(Expectation(kind=found[1]))
    for text in body:
        _expect(evaluation, text)
    return evaluation


def _expect(evaluation: Eval, text: str) -> None:
    if found := _EXPECT.fullmatch(text):
        wanted = found[3].strip() if found[3] is not None else None
        evaluation.expectations.append(Expectation(kind=found[1], text=wanted, is_regex=found[2] == "regex"))
    elif found := _EXPECT_STRING.fullmatch(text):
        evaluation.string = unquote(found[1])
    elif found := _EXPECT_RANGE_VECTOR.fullmatch(text):
        evaluation.range_vector = Grid(start_ms=time_ms(found[1]), end_ms=time_ms(found[2]), step_ms=time_ms(found[3]))
    elif found := _OLD_FAIL.fullmatch(text):
        evaluation.expectations.append(Expectation(kind="fail", text=found[2], is_regex=found[1] == "regexp"))
    elif re.fullmatch(_NUMBER, text):
        evaluation.scalar = number(text)
    else:
        loaded = _loaded(text)
        evaluation.series.append((loaded.labels, loaded.values))


def _loaded(text: str) -> LoadedSeries:
    """`name{label="value"} 1 2 3x4`, or `name{…}@st` with durations."""
    found = _METRIC.match(text)
    if not found or not found[0]:
        raise ValueError(f"not a series: {text!r}")
    pairs = [("__name__", found[1])] if found[1] else []
    at = 0
    body = (found[2] or "").strip()
    while at < len(body):
        pair = _PAIR.match(body, at)
        if not pair:
            raise ValueError(f"not labels: {body!r}")
        name = unquote(pair[1]) if pair[1] else pair[2]
        pairs.append((name, unquote(pair[3])) if pair[3] else ("__name__", name))
        at = pair.end()
    if "{{" in text[found.end() :]:
        raise ValueError(f"native histograms are not evaluated yet: {text!r}")
    words = text[found.end() :].split()
    expand = _starts if found[3] else _values
    return LoadedSeries(labels=sorted_labels(pairs), values=[value for word in words for value in expand(word)], starts=bool(found[3]))


def _values(word: str) -> Sequence:
    blank = re.fullmatch(r"_(?:x(\d+))?", word)
    if blank:
        return [None] * int(blank[1] or 1)
    if word == "stale":
        return [STALE_NAN]
    steps = _STEPS.fullmatch(word)
    if not steps:
        raise ValueError(f"not values: {word!r}")
    start, change = number(steps[1]), number(steps[2]) if steps[2] else 0.0
    values: Sequence = [start]
    value = start
    for _ in range(int(steps[3] or 0)):
        value += change
        values.append(value)
    return values


def _starts(word: str) -> Sequence:
    blank = re.fullmatch(r"_(?:x(\d+))?", word)
    if blank:
        return [None] * int(blank[1] or 1)
    steps = _START.fullmatch(word)
    if not steps:
        raise ValueError(f"not start times: {word!r}")
    start, change = time_ms(steps[1]), time_ms(steps[2]) if steps[2] else 0
    return [float(start + change * step) for step in range(int(steps[3] or 0) + 1)]


def number(text: str) -> float:
    sign = -1.0 if text.startswith("-") else 1.0
    plain = text.lstrip("+-").lower()
    return math.nan if plain == "nan" else sign * float(plain)


def time_ms(text: str) -> int:
    """A duration, or a number of seconds; either may have a sign."""
    sign = -1 if text.startswith("-") else 1
    plain = text.lstrip("+-")
    try:
        return sign * round(float(plain) * 1000)
    except ValueError:
        return sign * parse_duration(plain)


def unquote(text: str) -> str:
    """A Go string in any of the three quotes; what is no UTF-8 is shown as in answers."""
    try:
        return valid_utf8(literals.unquote(text.strip(), 0))
    except SyntaxProblem as problem:
        raise ValueError(f"{problem.message} in {text}") from problem
