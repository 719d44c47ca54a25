"""Times between int64 milliseconds and timestamptz."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_MS = -62_135_596_800_000
LAST_MS = 253_402_300_799_999


def to_time(ms: int) -> datetime:
    """Times outside the years 1 to 9999 become the nearest one inside: no sample stands there."""
    return EPOCH + timedelta(milliseconds=min(max(ms, FIRST_MS), LAST_MS))


def to_ms(time: datetime | None) -> int | None:
    return None if time is None else (time - EPOCH) // timedelta(milliseconds=1)
