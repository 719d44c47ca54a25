"""The kinds of values a key can have: each reads a YAML node and writes the value back for display."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Generic, TypeVar
from urllib.parse import urlsplit

import yaml

from promlike.config.document import Document, Invalid, Node, entries, is_null, kind_of
from promlike.config.secret import MASK, Secret
from promlike.errors import BadRequest
from promlike.model.durations import format_duration, parse_duration

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[T]):
    """How a value is read (raising Invalid, or collecting problems and going on) and written. `read(node, document, path)`."""

    read: Callable[[Node, Document, str], T]
    write: Callable[[T], object]


def _plain(value: object) -> object:
    return value


def _scalar(node: Node, wanted: str) -> str:
    if not isinstance(node, yaml.ScalarNode) or is_null(node):
        raise Invalid(node, f"{wanted} is needed here, not {kind_of(node)}")
    return str(node.value)


def _read_text(node: Node, document: Document, path: str) -> str:
    return "" if is_null(node) else _scalar(node, "text")


def _read_boolean(node: Node, document: Document, path: str) -> bool:
    text = _scalar(node, "true or false")
    if node.tag != "tag:yaml.org,2002:bool":
        raise Invalid(node, f'true or false is needed here, not "{text}"')
    return text.lower() in ("true", "yes", "on")


def _read_duration(node: Node, document: Document, path: str) -> int:
    text = _scalar(node, "a duration")
    try:
        return parse_duration(text)
    except BadRequest as error:
        raise Invalid(node, f'"{text}" is not a duration; write a number with ms, s, m, h, d, w or y, such as 15s or 1m30s') from error


_SIZES = {"EB": 1 << 60, "PB": 1 << 50, "TB": 1 << 40, "GB": 1 << 30, "MB": 1 << 20, "KB": 1 << 10, "B": 1}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTPE]i?B|B)", re.ASCII)


def _read_size(node: Node, document: Document, path: str) -> int:
    text = _scalar(node, "a size")
    match = _SIZE.fullmatch(text)
    if text == "0":
        return 0
    if match is None:
        raise Invalid(node, f'"{text}" is not a size; write a number with B, KB, MB, GB, TB, PB or EB (powers of 1024), such as 10MB')
    return int(float(match[1]) * _SIZES[match[2].replace("i", "")])


def _write_size(count: int) -> str:
    unit = next((unit for unit, size in _SIZES.items() if count and count % size == 0), "B")
    return f"{count // _SIZES[unit]}{unit}"


def _read_secret(node: Node, document: Document, path: str) -> Secret:
    return Secret(_read_text(node, document, path))


def _read_path(node: Node, document: Document, path: str) -> str:
    text = _read_text(node, document, path)
    return str(document.base_dir / text) if text else ""


def _read_url(node: Node, document: Document, path: str) -> str:
    text = _read_text(node, document, path)
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018  # reading it checks it
    except ValueError as error:
        raise Invalid(node, f'"{text}" is not a URL: {error}') from error
    if text and (not parts.scheme or not parts.hostname):
        raise Invalid(node, f'"{text}" is not a URL; write it with scheme and host, such as http://localhost:8080')
    return text


def _write_url(text: str) -> str:
    """The URL with its password masked."""
    parts = urlsplit(text)
    if parts.password is None:
        return text
    return parts._replace(netloc=f"{parts.username}:xxxxx@{parts.netloc.rpartition('@')[2]}").geturl()


TEXT: Kind[str] = Kind(read=_read_text, write=_plain)
BOOLEAN: Kind[bool] = Kind(read=_read_boolean, write=_plain)
SWITCH: Kind[bool | None] = Kind(read=_read_boolean, write=_plain)
"""A boolean whose absence (None) means: as in the section above."""
DURATION: Kind[int] = Kind(read=_read_duration, write=format_duration)
SIZE: Kind[int] = Kind(read=_read_size, write=_write_size)
SECRET: Kind[Secret] = Kind(read=_read_secret, write=lambda secret: MASK)
PATH: Kind[str] = Kind(read=_read_path, write=_plain)
URL: Kind[str] = Kind(read=_read_url, write=_write_url)


def integer(low: int = 0, high: int = 2**63 - 1) -> Kind[int]:
    """A whole number in low..high."""

    def read(node: Node, document: Document, path: str) -> int:
        text = _scalar(node, "a whole number")
        if not re.fullmatch(r"[+-]?\d+", text, re.ASCII):
            raise Invalid(node, f'a whole number is needed here, not "{text}"')
        if not low <= int(text) <= high:
            raise Invalid(node, f"{text} is out of range; {low} to {high} is allowed")
        return int(text)

    return Kind(read=read, write=_plain)


def number(low: float = 0.0, high: float = float("inf")) -> Kind[float]:
    """A floating-point number in low..high."""

    def read(node: Node, document: Document, path: str) -> float:
        text = _scalar(node, "a number")
        try:
            value = float(text)
        except ValueError as error:
            raise Invalid(node, f'a number is needed here, not "{text}"') from error
        if not isfinite(value) or not low <= value <= high:
            raise Invalid(node, f"{text} is out of range; {low:g} to {high:g} is allowed")
        return value

    return Kind(read=read, write=_plain)


def choice(*allowed: str) -> Kind[str]:
    """One of these words."""

    def read(node: Node, document: Document, path: str) -> str:
        text = _read_text(node, document, path)
        if text not in allowed:
            words = [word for word in allowed if word]
            wanted = f"one of {', '.join(words)}" if len(words) > 1 else f"only {words[0]}"
            raise Invalid(node, f'"{text}" is not allowed; {wanted} is')
        return text

    return Kind(read=read, write=_plain)


def items(kind: Kind[T]) -> Kind[tuple[T, ...]]:
    """A list; every entry is read, and the wrong ones are reported one by one."""

    def read(node: Node, document: Document, path: str) -> tuple[T, ...]:
        if is_null(node):
            return ()
        if not isinstance(node, yaml.SequenceNode):
            raise Invalid(node, f"a list is needed here, not {kind_of(node)}")
        found = []
        for index, entry in enumerate(node.value):
            try:
                found.append(kind.read(entry, document, f"{path}[{index}]"))
            except Invalid as wrong:
                document.reject(wrong, f"{path}[{index}]")
        return tuple(found)

    return Kind(read=read, write=lambda values: [kind.write(value) for value in values])


def mapping(kind: Kind[T]) -> Kind[tuple[tuple[str, T], ...]]:
    """Keys of the user's choosing, in their order; as a tuple of pairs, so that the section stays hashable and frozen."""

    def read(node: Node, document: Document, path: str) -> tuple[tuple[str, T], ...]:
        if is_null(node):
            return ()
        if not isinstance(node, yaml.MappingNode):
            raise Invalid(node, f"a mapping is needed here, not {kind_of(node)}")
        found = []
        for name, value in entries(node, document, path):
            try:
                found.append((str(name.value), kind.read(value, document, f"{path}.{name.value}")))
            except Invalid as wrong:
                document.reject(wrong, f"{path}.{name.value}")
        return tuple(found)

    return Kind(read=read, write=lambda pairs: {name: kind.write(value) for name, value in pairs})


def checked(kind: Kind[T], check: Callable[[T], str]) -> Kind[T]:
    """The kind with one more condition; `check` answers "" or what is wrong."""

    def read(node: Node, document: Document, path: str) -> T:
        value = kind.read(node, document, path)
        if message := check(value):
            raise Invalid(node, message)
        return value

    return Kind(read=read, write=kind.write)


POSITIVE_DURATION = checked(DURATION, lambda ms: "" if ms else "the interval must be above 0")
