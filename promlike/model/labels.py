"""Labels: the identity of a series."""

from collections.abc import Iterable, Mapping

METRIC_NAME = "__name__"

Labels = tuple[tuple[str, str], ...]
"""(name, value) pairs sorted by name, names unique, no empty values. The metric name is the value of `__name__`."""

EMPTY: Labels = ()


def labels(pairs: Mapping[str, str] | Iterable[tuple[str, str]]) -> Labels:
    """Sort pairs by name and drop empty values, which mean that the label is absent."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return tuple(sorted((name, value) for name, value in items if value))


def format_labels(series: Labels) -> str:
    """As Prometheus prints a series inside messages: `{__name__="up", job="api"}`."""
    return "{" + ", ".join(f"{name}={quote(value)}" for name, value in series) + "}"


def valid_utf8(text: str) -> str:
    """The text with U+FFFD for bytes that are no UTF-8, which Python keeps as lone surrogates."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def quote(text: str) -> str:
    """A double-quoted string with Go's escapes, as in Prometheus's messages and PromQL. Bytes that are no UTF-8, which Python keeps as
    lone surrogates, are escaped as such.
    """
    out = []
    for char in text:
        if char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif char.isprintable():
            out.append(char)
        elif ord(char) < 0x80:
            out.append(f"\\x{ord(char):02x}")
        elif "\udc80" <= char <= "\udcff":
            out.append(f"\\x{ord(char) - 0xDC00:02x}")
        elif ord(char) < 0x10000:
            out.append(f"\\u{ord(char):04x}")
        else:
            out.append(f"\\U{ord(char):08x}")
    return '"' + "".join(out) + '"'


_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\n": "\\n",
    "\t": "\\t",
    "\r": "\\r",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\v": "\\v",
}
