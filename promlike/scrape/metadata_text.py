"""HELP, TYPE and UNIT lines."""

import re
from dataclasses import dataclass, field

from promlike.scrape.series_text import unescape
from promlike.storage.access import Metadata

TEXT_TYPES = frozenset("counter gauge histogram summary untyped".split())
OPENMETRICS_TYPES = frozenset("counter gauge histogram gaugehistogram summary info stateset unknown".split())

_LINE = re.compile(r'#[ \t]+(HELP|TYPE|UNIT)[ \t]+(?:"((?:[^"\\]|\\.)*)"|([^ \t]+))(?:[ \t](.*))?', re.DOTALL)


@dataclass(slots=True, kw_only=True)
class FamilyLines:
    """Gathers what the lines say of each metric family. `untyped` is called `unknown`."""

    openmetrics: bool
    _found: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, line: bytes) -> None:
        """One line. Raise ValueError saying what is wrong with it."""
        kind, name, text = _parse_line(line)
        if kind == "TYPE":
            text = _type(text.strip(), self.openmetrics)
        elif kind == "UNIT" and text and not name.endswith("_" + text):
            raise ValueError(f'the unit "{text}" is not the last part of the metric name')
        self._found.setdefault(name, {})[kind] = text

    def metadata(self) -> list[Metadata]:
        """One Metadata a family, in order of first mention."""
        return [
            Metadata(metric=name, type=found.get("TYPE", "unknown"), help=found.get("HELP", ""), unit=found.get("UNIT", ""))
            for name, found in self._found.items()
        ]


def _parse_line(line: bytes) -> tuple[str, str, str]:
    try:
        match = _LINE.fullmatch(line.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {line[error.start]:#04x} is not valid UTF-8") from error
    if match is None:
        raise ValueError("a metric name is missing")
    kind, quoted, plain, text = match.groups()
    return kind, unescape(quoted) if quoted is not None else plain, unescape(text or "")


def _type(text: str, openmetrics: bool) -> str:
    if text not in (OPENMETRICS_TYPES if openmetrics else TEXT_TYPES | OPENMETRICS_TYPES):
        raise ValueError(f'"{text}" is not a metric type')
    return "unknown" if text == "untyped" else text
