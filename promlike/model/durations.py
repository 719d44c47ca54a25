"""Durations as Prometheus writes them: `1h30m`, `15s`, `100ms`."""

import re

from promlike.errors import BadRequest

UNIT_MS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}

MAX_MS = (2**63 - 1) // 1_000_000
"""Prometheus keeps durations as int64 nanoseconds: about 292 years."""

_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII)


def parse_duration(text: str) -> int:
    """Milliseconds of `1h30m`; `0` needs no unit. Raise BadRequest naming the text otherwise."""
    if text == "0":
        return 0
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise BadRequest(f"not a valid duration string: {text!r}")
    total = sum(int(count) * unit for count, unit in zip(match.groups(), UNIT_MS.values(), strict=True) if count)
    if total > MAX_MS:
        raise BadRequest(f"duration out of range: {text!r}")
    return total


def format_duration(ms: int) -> str:
    """The canonical text of a duration, as Prometheus prints it: weeks and years only when nothing is left over."""
    if ms == 0:
        return "0s"
    sign, ms = ("-", -ms) if ms < 0 else ("", ms)
    parts = []
    for unit, size in UNIT_MS.items():
        if unit in ("y", "w", "d") and unit != "d" and ms % size:
            continue
        if ms >= size:
            parts.append(f"{ms // size}{unit}")
            ms %= size
    return sign + "".join(parts)
