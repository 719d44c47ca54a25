"""Parts of dates: year, month, day, hour, … of times in seconds since 1970."""

from enum import IntEnum

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Float64, Int64


class DatePart(IntEnum):
    """What `date_part` computes."""

    YEAR = 0
    MONTH = 1
    DAY_OF_MONTH = 2
    DAY_OF_YEAR = 3
    DAYS_IN_MONTH = 4
    DAY_OF_WEEK = 5
    HOUR = 6
    MINUTE = 7


@inlined
def _is_time(value: float) -> bool:
    """Does it fit 64 bits of seconds? NaN does not."""
    return -9223372036854775808.0 < value < 9223372036854775808.0


@inlined
def _leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


@inlined
def _of_day(days: int, part: int) -> int:
    """Year, month, day or lengths of the civil date `days` after 1970-01-01, by counting in eras of 400 years that begin in March."""
    shifted = days + 719468
    era = shifted // 146097
    day_of_era = shifted - era * 146097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    if part == 0:
        return year
    if part == 1:
        return month
    if part == 2:
        return day_of_year - (153 * shifted_month + 2) // 5 + 1
    if part == 3:
        return day_of_year - 305 if month <= 2 else day_of_year + (60 if _leap(year) else 59) + 1
    if month == 2:
        return 29 if _leap(year) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


@kernel("(f8[::1], i8[::1], i8[::1], i8, f8[::1])")
def date_part(times: Float64, transitions: Int64, offsets: Int64, part: int, out: Float64) -> None:
    """`DatePart` part of `times float64[N]` seconds since 1970, in the zone that is `offsets[i]` seconds ahead of UTC from
    `transitions[i]` on (int64[Z] each, sorted, Z >= 1; the first offset also holds before its transition).

    What is no time has the date 2^63 seconds after 1970, as it has in Prometheus on x86-64.
    """
    zones = len(transitions)
    zone = 0
    for i in range(len(times)):
        seconds = int(times[i]) if _is_time(times[i]) else 0
        # Neighbouring values mostly share a zone interval, so the search starts from the last one.
        if (zone > 0 and seconds < transitions[zone]) or (zone + 1 < zones and seconds >= transitions[zone + 1]):
            low = 0
            high = zones
            while low < high:
                middle = (low + high) >> 1
                if transitions[middle] <= seconds:
                    low = middle + 1
                else:
                    high = middle
            zone = max(low - 1, 0)
        seconds += offsets[zone]
        days = seconds // 86400
        of_day = seconds - days * 86400
        if not _is_time(times[i]):
            days = 106751991167300
            of_day = 55808
        if part == 5:
            out[i] = (days + 4) % 7
        elif part == 6:
            out[i] = of_day // 3600
        elif part == 7:
            out[i] = of_day % 3600 // 60
        else:
            out[i] = _of_day(days, part)
