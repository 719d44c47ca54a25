"""Macros of the DuckDB store for people who write SQL, with the names, arguments and answers of PostgreSQL's functions."""

from promlike.storage.duckdb.views import STALE
from promlike.storage.metric_views import BUCKET_ORIGIN, LOOK_BEHIND

_WANTED = "(SELECT id FROM series WHERE metric = metric_name AND json_contains(labels, matching))"

STATEMENTS = (
    f"""
    CREATE MACRO bucket(step, moment) AS
        time_bucket(CAST(step AS INTERVAL), CAST(moment AS TIMESTAMPTZ), TIMESTAMPTZ '{BUCKET_ORIGIN}')
    """,
    f"""
    CREATE MACRO metric_increase(metric_name, step, start_time, end_time := now(), matching := '{{}}') AS TABLE
    SELECT buckets.time, buckets.series_id, series.labels, buckets.increase
    FROM (
        SELECT bucket(step, pair.time) AS time, series_id, sum(CASE WHEN value >= previous THEN value - previous ELSE value END) AS increase
        FROM (
            SELECT series_id, time, value, lag(value) OVER (PARTITION BY series_id ORDER BY time) AS previous
            FROM sample_value
            WHERE series_id IN {_WANTED}
                AND time >= CAST(start_time AS TIMESTAMPTZ) - INTERVAL '{LOOK_BEHIND}' AND time < CAST(end_time AS TIMESTAMPTZ)
        ) AS pair
        WHERE pair.time >= CAST(start_time AS TIMESTAMPTZ) AND previous IS NOT NULL
        GROUP BY ALL
    ) AS buckets JOIN series ON series.id = buckets.series_id
    """,
    """
    CREATE MACRO metric_rate(metric_name, step, start_time, end_time := now(), matching := '{}') AS TABLE
    SELECT time, series_id, labels,
           increase / epoch(
               least(time + CAST(step AS INTERVAL), CAST(end_time AS TIMESTAMPTZ)) - greatest(time, CAST(start_time AS TIMESTAMPTZ))
           ) AS rate
    FROM metric_increase(metric_name, step, start_time, end_time, matching)
    """,
    f"""
    CREATE MACRO metric_last(metric_name, at_time := now(), lookback := '15 minutes', matching := '{{}}') AS TABLE
    SELECT to_timestamp(newest.ts / 1000) AS time, series.id AS series_id, series.labels, newest.value
    FROM (
        SELECT series_id, max(ts) AS ts, arg_max(value, ts) AS value FROM samples
        WHERE series_id IN {_WANTED}
            AND to_timestamp(ts / 1000) > CAST(at_time AS TIMESTAMPTZ) - CAST(lookback AS INTERVAL)
            AND to_timestamp(ts / 1000) <= CAST(at_time AS TIMESTAMPTZ)
        GROUP BY series_id
    ) AS newest JOIN series ON series.id = newest.series_id
    WHERE NOT isnan(newest.value) OR try_cast(newest.value AS BIT) <> {STALE}
    """,
)
