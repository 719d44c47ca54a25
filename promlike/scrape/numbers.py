"""The numbers of the text formats that the kernel leaves."""

import re

import numpy as np

_DECIMAL = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_SPECIAL = {b"nan": np.nan, b"inf": np.inf, b"+inf": np.inf, b"-inf": -np.inf}
_SPECIAL |= {name.replace(b"inf", b"infinity"): value for name, value in _SPECIAL.items() if value == value}


def parse_float(text: bytes) -> float:
    """A number as Go's ParseFloat reads it, without the hexadecimal and underscore forms that the format leaves out. Raise ValueError."""
    if _DECIMAL.fullmatch(text):
        value = float(text)
        if value in (np.inf, -np.inf):
            raise ValueError(f"the number {text.decode()} is out of range")
        return value
    special = _SPECIAL.get(text.lower())
    if special is None:
        raise ValueError(f"{text.decode(errors='replace')!r} is not a number")
    return special


def parse_milliseconds(text: bytes) -> int:
    """A timestamp of the Prometheus text format. Raise ValueError."""
    if not re.fullmatch(rb"[+-]?\d+", text) or not -(2**63) < int(text) < 2**63:
        raise ValueError(f"{text.decode(errors='replace')!r} is not a timestamp in milliseconds")
    return int(text)


def parse_seconds(text: bytes) -> int:
    """A timestamp of OpenMetrics, in milliseconds. Raise ValueError."""
    value = parse_float(text) * 1000.0
    if not -(2.0**63) < value < 2.0**63:
        raise ValueError(f"{text.decode()!r} is not a timestamp in seconds")
    return int(value)
