"""HELP, TYPE and UNIT lines."""

import re
from collections.abc import Iterable

from promlike.scrape.series_text import unescape
from promlike.storage.store import Metadata

TEXT_TYPES = frozenset("counter gauge histogram summary untyped".split())
OPENMETRICS_TYPES = frozenset("counter gauge histogram gaugehistogram summary info stateset unknown".split())

_LINE = re.compile(r'#[ \t]+(HELP|TYPE|UNIT)[ \t]+(?:"((?:[^"\\]|\\.)*)"|([^ \t]+))(?:[ \t](.*))?', re.DOTALL)


def parse_metadata(lines: Iterable[bytes], *, openmetrics: bool) -> list[Metadata]:
    """One Metadata a family, in order of first mention; `untyped` is called `unknown`. Raise ValueError with the line that is wrong."""
    families: dict[str, dict[str, str]] = {}
    for line in lines:
        kind, name, text = _parse_line(line)
        if kind == "TYPE":
            text = _type(text.strip(), line, openmetrics)
        elif kind == "UNIT" and text and not name.endswith("_" + text):
            raise ValueError(f"the unit is not the last part of the metric name: {_shown(line)}")
        families.setdefault(name, {})[kind] = text
    return [
        Metadata(metric=name, type=found.get("TYPE", "unknown"), help=found.get("HELP", ""), unit=found.get("UNIT", ""))
        for name, found in families.items()
    ]


def _parse_line(line: bytes) -> tuple[str, str, str]:
    try:
        match = _LINE.fullmatch(line.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"not valid UTF-8: {_shown(line)}") from error
    if match is None:
        raise ValueError(f"a metric name is missing: {_shown(line)}")
    kind, quoted, plain, text = match.groups()
    return kind, unescape(quoted) if quoted is not None else plain, unescape(text or "")


def _type(text: str, line: bytes, openmetrics: bool) -> str:
    if text not in (OPENMETRICS_TYPES if openmetrics else TEXT_TYPES | OPENMETRICS_TYPES):
        raise ValueError(f'"{text}" is not a metric type: {_shown(line)}')
    return "unknown" if text == "untyped" else text


def _shown(line: bytes) -> str:
    return repr(line[:200].decode(errors="replace"))
