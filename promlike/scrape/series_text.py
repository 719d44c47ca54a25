"""The text of one series, `name{label="value"}`, read into pairs: for series not seen before only."""

import re

LabelPairs = list[tuple[str, str]]

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_ITEM = re.compile(
    r'[ \t]*(?:([a-zA-Z_][a-zA-Z0-9_]*)|"((?:[^"\\]|\\.)*)")[ \t]*(?:=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*)?(,|\}$)?',
    re.DOTALL,
)
_CLOSED = re.compile(r"[ \t]*\}")
_ESCAPED = re.compile(r'\\([\\"n])')
_STRICT_BLANK = re.compile(r'"(?:[^"\\]|\\.)*"|([ \t])', re.DOTALL)


def parse_series(data: bytes, *, openmetrics: bool) -> LabelPairs:
    """Name (as `__name__`) and labels, in the order of the text; empty values kept. Raise ValueError saying what is wrong.

    The metric name may stand before the braces, or inside them in quotes, as UTF-8 names do. Like Prometheus this forgives
    missing commas.
    """
    text = _text(data)
    pairs: LabelPairs = []
    at = 0
    if name := _NAME.match(text):
        pairs.append(("__name__", name[0]))
        at = name.end()
    brace = text.find("{", at)
    if brace >= 0:
        if openmetrics and any(match[1] for match in _STRICT_BLANK.finditer(text, at)):
            raise ValueError("OpenMetrics does not allow blanks inside a series")
        _parse_labels(text, brace + 1, pairs)
    if not any(name == "__name__" for name, _ in pairs):
        raise ValueError("the metric name is missing")
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f'label name "{twice}" is not unique')
    return pairs


def parse_label_set(data: bytes) -> LabelPairs:
    """The labels in `{name="value",…}` of an exemplar, without blanks outside of quotes. Raise ValueError saying what is wrong."""
    text = _text(data)
    if any(match[1] for match in _STRICT_BLANK.finditer(text)):
        raise ValueError("OpenMetrics does not allow blanks inside the labels of an exemplar")
    pairs: LabelPairs = []
    _parse_labels(text, 1, pairs)
    return pairs


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {data[error.start]:#04x} is not valid UTF-8") from error


def _parse_labels(text: str, at: int, pairs: LabelPairs) -> None:
    while not _CLOSED.fullmatch(text, at):
        item = _ITEM.match(text, at)
        if item is None:
            raise ValueError(f'label name="value" expected at {text[at : at + 40]!r}')
        plain, quoted, value, after = item.groups()
        name = plain if plain is not None else unescape(quoted)
        if value is not None:
            pairs.append((name, unescape(value)))
            if not name:
                raise ValueError("a label name is empty")
        elif plain is not None or any(known == "__name__" for known, _ in pairs):
            raise ValueError(f'label "{name}" has no value')
        else:
            pairs.append(("__name__", name))
        at = item.end()
        if after == "}":
            return


def unescape(text: str) -> str:
    """`\\\\`, `\\"` and `\\n`; any other backslash stands for itself."""
    return _ESCAPED.sub(lambda match: "\n" if match[1] == "n" else match[1], text) if "\\" in text else text
