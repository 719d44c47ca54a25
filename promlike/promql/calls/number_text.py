"""Numbers as Go writes and reads them, for messages and label values."""

import math
import re


def format_g(value: float) -> str:
    """As Go's `%g`: the shortest digits that read back the same, with an exponent below 1e-4 and from 1e+06 on."""
    return _special(value) or _shortest(value)


def format_open_metrics(value: float) -> str:
    """As OpenMetrics wants `le` and `quantile`: always with a point or an exponent."""
    text = _special(value) or _shortest(value)
    return text if any(char in text for char in ".eIN") else f"{text}.0"


def parse_float(text: str) -> float | None:
    """What Go's strconv.ParseFloat reads; None where it gives an error."""
    if _HEXADECIMAL.fullmatch(text):
        try:
            return float.fromhex(text.replace("_", ""))
        except OverflowError:
            return None
    if _SPECIAL.fullmatch(text):
        return float(text)
    if not _DECIMAL.fullmatch(text):
        return None
    value = float(text)
    return None if math.isinf(value) else value


_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HEXADECIMAL = re.compile(r"[+-]?0[xX](?:_?[0-9a-fA-F])*\.?(?:[0-9a-fA-F](?:_?[0-9a-fA-F])*)?[pP][+-]?[0-9]+")
_SPECIAL = re.compile(r"[+-]?(?:inf|infinity)|nan", re.IGNORECASE)


def _special(value: float) -> str | None:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return None


def _shortest(value: float) -> str:
    """Shortest round-trip digits; with an exponent where that is below -4 or above 5."""
    if value == 0:
        return "-0" if math.copysign(1.0, value) < 0 else "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent_text = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    exponent = int(exponent_text or 0) + (len(whole) - 1 if whole != "0" else -1 - (len(fraction) - len(fraction.lstrip("0"))))
    digits = digits.rstrip("0") or "0"
    if exponent < -4 or exponent > 5:
        point = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{point}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    padded = digits.ljust(exponent + 1, "0")
    tail = padded[exponent + 1 :]
    return f"{sign}{padded[: exponent + 1]}{'.' + tail if tail else ''}"
