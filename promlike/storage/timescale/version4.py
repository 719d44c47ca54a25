"""Version 4: functions for people, where plain SQL is clumsy. PostgreSQL puts them into the query that calls them, so they cost no more."""

from collections.abc import Sequence

from promlike.storage.metric_views import BUCKET_ORIGIN, LOOK_BEHIND
from promlike.storage.timescale.version3 import NO_MARKER, STALE

SAMPLES_OF_SERIES = f"""
    SELECT DISTINCT ON (ts) ts, {{value}} AS value FROM samples
    WHERE samples.series_id = series.id AND {{no_marker}}
        AND ts >= start_time - INTERVAL '{LOOK_BEHIND}' AND ts < end_time
    ORDER BY ts
"""

BUCKET = f"""
CREATE FUNCTION bucket(step interval, "time" timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN date_bin(step, "time", TIMESTAMPTZ '{BUCKET_ORIGIN}')
"""

METRIC_INCREASE = """
CREATE OR REPLACE FUNCTION metric_increase(
    metric_name text, step interval, start_time timestamptz, end_time timestamptz DEFAULT now(), matching jsonb DEFAULT '{{}}'
) RETURNS TABLE ("time" timestamptz, series_id int, labels jsonb, increase float8)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1000
BEGIN ATOMIC
    SELECT buckets.start, series.id, series.labels, buckets.increase
    FROM series CROSS JOIN LATERAL (
        SELECT bucket(step, pair.ts) AS start,
               sum(CASE WHEN pair.value >= pair.previous THEN pair.value - pair.previous ELSE pair.value END) AS increase
        FROM (
            SELECT sample.ts, sample.value, lag(sample.value) OVER (ORDER BY sample.ts) AS previous
            FROM ({samples}) AS sample
        ) AS pair
        WHERE pair.ts >= start_time AND pair.previous IS NOT NULL
        GROUP BY 1
    ) AS buckets
    WHERE series.metric = metric_name AND series.labels @> matching;
END
"""
"""The increase between two successive samples belongs to the bucket of the later one. A value below the one before is a counter that began
again at zero."""

METRIC_RATE = """
CREATE FUNCTION metric_rate(
    metric_name text, step interval, start_time timestamptz, end_time timestamptz DEFAULT now(), matching jsonb DEFAULT '{}'
) RETURNS TABLE ("time" timestamptz, series_id int, labels jsonb, rate float8)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1000
BEGIN ATOMIC
    SELECT found."time", found.series_id, found.labels,
           found.increase / extract(epoch FROM least(found."time" + step, end_time) - greatest(found."time", start_time))::float8
    FROM metric_increase(metric_name, step, start_time, end_time, matching) AS found;
END
"""

METRIC_LAST = f"""
CREATE OR REPLACE FUNCTION metric_last(
    metric_name text, at_time timestamptz DEFAULT now(), lookback interval DEFAULT '15 minutes', matching jsonb DEFAULT '{{{{}}}}'
) RETURNS TABLE ("time" timestamptz, series_id int, labels jsonb, value float8)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1000
BEGIN ATOMIC
    SELECT newest.ts, series.id, series.labels, newest.value
    FROM series CROSS JOIN LATERAL (
        SELECT ts, {{value}} AS value FROM samples
        WHERE samples.series_id = series.id AND ts > at_time - lookback AND ts <= at_time
        ORDER BY ts DESC LIMIT 1
    ) AS newest
    WHERE series.metric = metric_name AND series.labels @> matching
        AND (newest.value <> 'NaN' OR float8send(newest.value) <> {STALE});
END
"""


def metric_increase(value: str, no_marker: str) -> str:
    """The function; what the value of a row of `samples` is, and the condition that it is no stale marker."""
    return METRIC_INCREASE.format(samples=SAMPLES_OF_SERIES.format(value=value, no_marker=no_marker))


def metric_last(value: str) -> str:
    """The function; what the value of a row of `samples` is."""
    return METRIC_LAST.format(value=value)


def functions_for_people(timescale: bool) -> Sequence[str]:
    """The same on TimescaleDB and without it."""
    return (BUCKET, metric_increase("value", NO_MARKER), METRIC_RATE, metric_last("value"))
