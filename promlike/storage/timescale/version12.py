"""Version 12: values may stand as decimal fractions, see `values.py`."""

from collections.abc import Sequence

from promlike.storage.timescale.values import value_of
from promlike.storage.timescale.version3 import NO_MARKER, labelled_samples
from promlike.storage.timescale.version4 import metric_increase, metric_last

COLUMNS = (
    "ALTER TABLE samples ADD COLUMN scaled bigint",
    "ALTER TABLE samples ADD COLUMN divisor float8",
    "ALTER TABLE samples ALTER COLUMN value DROP NOT NULL",
)
"""Rows from before keep their `value`. TimescaleDB takes one change at a time."""


def decimal_values(timescale: bool) -> Sequence[str]:
    """The same on TimescaleDB and without it, where the new columns stay empty."""
    no_marker = f"(value IS NULL OR {NO_MARKER})"
    return (
        *COLUMNS,
        labelled_samples(value_of("samples"), no_marker),
        metric_increase(value_of("samples"), no_marker),
        metric_last(value_of("samples")),
    )
