"""The exemplar behind a sample of OpenMetrics: `# {trace_id="abc"} 0.5 1700000000.123`."""

import re

from promlike.scrape.numbers import parse_float, parse_seconds
from promlike.scrape.series_text import LabelPairs, parse_label_set

_EXEMPLAR = re.compile(rb'# (\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\}) ([^ ]+)(?: ([^ ]+))?', re.DOTALL)


def parse_exemplar(data: bytes) -> tuple[LabelPairs, float, int | None]:
    """Labels, value, and time in milliseconds where there is one. Raise ValueError saying what is wrong."""
    match = _EXEMPLAR.fullmatch(data)
    if match is None:
        raise ValueError('an exemplar must be # {name="value"}, a value and perhaps a timestamp, with single blanks between them')
    labels, value, time = match.groups()
    return parse_label_set(labels), parse_float(value), None if time is None else parse_seconds(time)
