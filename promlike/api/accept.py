"""Which exposition format a client that scrapes this server likes best, from its Accept headers."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from aiohttp import hdrs, web

MESSAGE = "io.prometheus.client.MetricFamily"


class Format(Enum):
    """The formats that metrics can have."""

    TEXT = auto()
    OPENMETRICS = auto()
    PROTOBUF = auto()


class Escaping(Enum):
    """Names outside the old alphabet: as they are, or with underscores for what is not allowed."""

    UNDERSCORES = "underscores"
    ALLOW_UTF8 = "allow-utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposition:
    """A format, and what it makes of names."""

    format: Format = Format.TEXT
    escaping: Escaping = Escaping.UNDERSCORES

    @property
    def content_type(self) -> str:
        """The value of the header, with the scheme of names as Prometheus 3 has it."""
        match self.format:
            case Format.PROTOBUF:
                kind = f"application/vnd.google.protobuf; proto={MESSAGE}; encoding=delimited"
            case Format.OPENMETRICS:
                kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
            case Format.TEXT:
                version = "1.0.0" if self.escaping is Escaping.ALLOW_UTF8 else "0.0.4"
                kind = f"text/plain; version={version}; charset=utf-8"
        return f"{kind}; escaping={self.escaping.value}"


def negotiate(request: web.Request, offered: Collection[Format]) -> Exposition:
    """The best of those offered; of equally liked ones the first, and text when none is."""
    best, most = Exposition(), 0.0
    for exposition, weight in _accepted(",".join(request.headers.getall(hdrs.ACCEPT, []))):
        if exposition.format in offered and weight > most:
            best, most = exposition, weight
    return best


def _accepted(text: str) -> Iterator[tuple[Exposition, float]]:
    for entry in text.split(","):
        kind, *options = (part.strip() for part in entry.split(";"))
        given = {name.strip(): value.strip() for name, _, value in (option.partition("=") for option in options)}
        found = _format(kind.lower(), given)
        try:
            weight = float(given.get("q", "1"))
        except ValueError:
            continue
        if found is not None:
            yield Exposition(format=found, escaping=_escaping(found, given)), weight


def _format(kind: str, given: dict[str, str]) -> Format | None:
    match kind:
        case "text/plain":
            return Format.TEXT
        case "application/openmetrics-text" if given.get("version", "1.0.0") in ("1.0.0", "0.0.1"):
            return Format.OPENMETRICS
        case "application/vnd.google.protobuf" if (given.get("proto"), given.get("encoding")) == (MESSAGE, "delimited"):
            return Format.PROTOBUF
        case _:
            return None


def _escaping(found: Format, given: dict[str, str]) -> Escaping:
    """Text knows names of other alphabets since its version 1.0.0."""
    allowed = given.get("escaping") == Escaping.ALLOW_UTF8.value and (found is not Format.TEXT or given.get("version") == "1.0.0")
    return Escaping.ALLOW_UTF8 if allowed else Escaping.UNDERSCORES
