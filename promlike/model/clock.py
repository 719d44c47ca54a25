"""The clock that samples are stamped with."""

import time

import numpy as np


def wall_clock_ms() -> int:
    """Now, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Utc:
    """A time in milliseconds since 1970. Printed as RFC 3339, also beyond the years that calendars of Python have, and not before."""

    __slots__ = ("_ms",)

    def __init__(self, ms: int) -> None:
        self._ms = ms

    def __str__(self) -> str:
        return f"{np.datetime_as_string(np.datetime64(self._ms, 'ms'))}Z"
