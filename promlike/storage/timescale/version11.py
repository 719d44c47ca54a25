"""Version 11 of the schema: rows of rollup tiers packed by series and stretch of time."""

from collections.abc import Sequence

from promlike.storage.tiers import PACKED_COLUMNS
from promlike.storage.timescale.version7 import PARTITION_DAYS

TIERS = {"5m": 300, "1h": 3600}
"""Names and seconds."""

_IN_PLACE = ("buckets", "counts", "first_times", "first_values", "last_times", "last_values", "resets", "stale")
"""What rates, increases and instants need stays in the row; sums and extremes go beside it where a row gets too long."""

_COLUMNS = f"""
    until timestamptz NOT NULL, series_id int NOT NULL, rows int NOT NULL, first_time timestamptz NOT NULL, last_time timestamptz NOT NULL,
    {", ".join(f"{column} bytea NOT NULL" for column in PACKED_COLUMNS.values())}
"""


def packed_tiers(timescale: bool) -> Sequence[str]:
    """A row is what a series has in a stretch of time whose last bucket ends at `until`: a day of buckets of 5 minutes, four of those of an
    hour, or a part of it, which is put together with others later.

    The bytes of a column are described in `storage/tier_codec.py`, and taken apart by `rollup_integer` and `rollup_number`. `first_time`
    and `last_time` are of samples. Tables of version 7 are renamed; what they hold is packed by `convert.py`.
    """
    tables = []
    for name in TIERS:
        tables += [f"ALTER TABLE rollup_{name} RENAME TO rows_{name}", f"ALTER INDEX rollup_{name}_series_bucket RENAME TO rows_{name}_key"]
        tables += _hypertable(name) if timescale else [_RENAME_PARTITIONS.format(name=name), *_partitioned(name)]
    return ("DROP VIEW labelled_rollups", *tables, *_FUNCTIONS, _VIEW, *_PROGRESS)


_RENAME_PARTITIONS = """
    DO $$
    DECLARE
        old text;
    BEGIN
        FOR old IN SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'rows_{name}'::regclass LOOP
            EXECUTE format('ALTER TABLE %I RENAME TO %I', old, replace(old, 'rollup_', 'rows_'));
        END LOOP;
    END $$
"""


def _hypertable(name: str) -> Sequence[str]:
    days = PARTITION_DAYS[name]
    return (
        f"CREATE TABLE rollup_{name} ({_COLUMNS})",
        *_storage(name),
        f"SELECT create_hypertable('rollup_{name}', by_range('until', INTERVAL '{days} days'), create_default_indexes => false)",
        f"CREATE INDEX rollup_{name}_series ON rollup_{name} (series_id, until)",
    )


def _partitioned(name: str) -> Sequence[str]:
    return (
        f"CREATE TABLE rollup_{name} ({_COLUMNS}) PARTITION BY RANGE (until)",
        *_storage(name),
        f"CREATE INDEX rollup_{name}_series ON rollup_{name} (series_id, until)",
    )


def _storage(name: str) -> list[str]:
    kinds = {column: "MAIN" if column in _IN_PLACE else "EXTERNAL" for column in PACKED_COLUMNS.values()}
    return [f"ALTER TABLE rollup_{name} ALTER COLUMN {column} SET STORAGE {kind}" for column, kind in kinds.items()]


_FUNCTIONS = (
    """
    CREATE FUNCTION rollup_integer(data bytea, rows int, at int) RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
    DECLARE
        above bigint := 0;
        first int := get_byte(data, 0) >> 4;
    BEGIN
        FOR k IN 0 .. get_byte(data, 1) - 1 LOOP
            above := above | (get_byte(data, 10 + k * rows + at)::bigint << 8 * (first + k));
        END LOOP;
        RETURN ('x' || encode(substr(data, 3, 8), 'hex'))::bit(64)::bigint + above;
    END $$
    """,
    """
    CREATE FUNCTION rollup_float(form int, bits bigint) RETURNS float8
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
    DECLARE
        exponent int := (bits >> 52) & 2047;
        fraction float8 := (bits & ((1::bigint << 52) - 1))::float8 / (1::bigint << 52)::float8;
        sign float8 := CASE WHEN bits < 0 THEN -1 ELSE 1 END;
    BEGIN
        IF form < 7 THEN
            RETURN bits::float8 / power(10::float8, form);
        ELSIF exponent = 2047 THEN
            RETURN CASE WHEN fraction = 0 THEN sign * 'Infinity'::float8 ELSE 'NaN'::float8 END;
        ELSIF exponent = 0 THEN
            RETURN sign * fraction * power(2::float8, -1022);
        END IF;
        RETURN sign * (1 + fraction) * power(2::float8, exponent - 1023);
    END $$
    """,
    """
    CREATE FUNCTION rollup_number(data bytea, rows int, at int) RETURNS float8
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN rollup_float(get_byte(data, 0) & 15, rollup_integer(data, rows, at))
    """,
)

_PROGRESS = (
    """
    CREATE TABLE rollup_progress (
        one bool PRIMARY KEY DEFAULT true CHECK (one),
        writer int NOT NULL, upto_ms bigint NOT NULL, next_ms bigint NOT NULL, next_ref int NOT NULL
    )
    """,
    """
    INSERT INTO rollup_progress (writer, upto_ms, next_ms, next_ref)
    SELECT min(writer), min(upto_ms), min(upto_ms), 0 FROM rollup_state HAVING count(*) > 0
    """,
    "DROP TABLE rollup_state",
)
"""How far tiers reach is one for all writers now: each of them had rolled up what all others had stored, too."""

_PACKED = " UNION ALL ".join(
    f"SELECT '{name}' AS resolution, {seconds} AS seconds, * FROM rollup_{name}" for name, seconds in TIERS.items()
)

_VIEW = f"""
    CREATE VIEW labelled_rollups AS
    SELECT to_timestamp(((rollup_integer(buckets, rows, at) + at) * seconds)::float8) AS time, resolution, metric, labels,
        rollup_integer(counts, rows, at)::int AS count, rollup_number(sums, rows, at) AS sum, rollup_number(mins, rows, at) AS min,
        rollup_number(maxs, rows, at) AS max, rollup_number(first_values, rows, at) AS first_value,
        rollup_number(last_values, rows, at) AS last_value,
        rollup_number(last_values, rows, at) - rollup_number(first_values, rows, at) + rollup_number(resets, rows, at) AS increase,
        until
    FROM ({_PACKED}) AS packed
    JOIN series ON series.id = packed.series_id
    CROSS JOIN LATERAL generate_series(0, rows - 1) AS at
    WHERE rollup_integer(counts, rows, at) > 0
"""
"""For people. Conditions on `metric`, `labels`, `resolution` and `until` are cheap, the others are looked at once a row is unpacked."""
