"""The obvious parser: line by line, character by character. The twin of `exposition.read_exposition`."""

import re
from dataclasses import dataclass
from math import inf, isinf, nan


class Malformed(Exception):
    """The number of the first line that is wrong, from 1."""


@dataclass(frozen=True)
class Line:
    labels: tuple[tuple[str, str], ...]
    value: float
    ts_ms: int | None


NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
SPECIAL = {"nan": nan, "inf": inf, "+inf": inf, "-inf": -inf, "infinity": inf, "+infinity": inf, "-infinity": -inf}


def parse(text: str) -> list[Line]:
    """The samples of a body in the Prometheus text format whose label values hold no newline. Raise Malformed."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.lstrip(" \t")
        if not line or line.startswith("#"):
            continue
        try:
            found.append(_line(line))
        except ValueError as error:
            raise Malformed(number) from error
    return found


def _line(line: str) -> Line:
    labels: list[tuple[str, str]] = []
    name, rest = _name(line, ":")
    if name:
        labels.append(("__name__", name))
    opened = rest.lstrip(" \t")
    if opened.startswith("{"):
        rest = _labels(opened[1:], labels)
    elif not rest.startswith((" ", "\t")):
        raise ValueError("no value")
    if "__name__" not in dict(labels) or len(dict(labels)) != len(labels):
        raise ValueError("no name, or a label twice")
    parts = re.split(r"[ \t]+", rest.strip(" \t"))
    if len(parts) > 2 or "{" in rest:
        raise ValueError("too much")
    return Line(tuple(labels), _number(parts[0]), _integer(parts[1]) if len(parts) == 2 else None)


def _name(text: str, more: str = "") -> tuple[str, str]:
    end = 0
    while end < len(text) and (
        text[end] in "_" + more or (text[end].isascii() and text[end].isalnum() and (end or not text[end].isdigit()))
    ):
        end += 1
    return text[:end], text[end:]


def _labels(text: str, labels: list[tuple[str, str]]) -> str:
    while True:
        text = text.lstrip(" \t")
        if text.startswith("}"):
            return text[1:]
        quoted = text.startswith('"')
        name, text = _quoted(text) if quoted else _name(text)
        text = text.lstrip(" \t")
        if text.startswith("=") and name:
            value, text = _quoted(text[1:].lstrip(" \t"))
            labels.append((name, value))
        elif quoted and "__name__" not in dict(labels):
            labels.append(("__name__", name))
        else:
            raise ValueError("no value")
        text = text.lstrip(" \t")
        text = text.removeprefix(",")


def _quoted(text: str) -> tuple[str, str]:
    if not text.startswith('"'):
        raise ValueError("no quote")
    out, at = "", 1
    while text[at : at + 1] != '"':
        if at >= len(text):
            raise ValueError("not closed")
        if text[at] == "\\":
            out += {'"': '"', "\\": "\\", "n": "\n"}.get(text[at + 1 : at + 2], text[at : at + 2])
            at += 2
        else:
            out += text[at]
            at += 1
    return out, text[at + 1 :]


def _number(text: str) -> float:
    if text.lower() in SPECIAL:
        return SPECIAL[text.lower()]
    if not NUMBER.fullmatch(text) or isinf(float(text)):
        raise ValueError("no number")
    return float(text)


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", text, re.ASCII) or not -(2**63) < int(text) < 2**63:
        raise ValueError("no time")
    return int(text)
