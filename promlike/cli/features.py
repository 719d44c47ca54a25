"""Names of `--enable-feature`: ours by field, Prometheus's others as no-ops."""

from collections.abc import Iterable
from dataclasses import fields
from logging import getLogger

from promlike.promql.options import Features

log = getLogger(__name__)

ALWAYS_ON = frozenset(
    {
        "memory-snapshot-on-shutdown",
        "promql-at-modifier",
        "promql-duration-expr",
        "promql-negative-offset",
        "remote-write-receiver",
        "search-api",
    }
)
"""Features that are part of promlike without being asked for."""

NOT_HERE = frozenset(
    {
        "agent",
        "auto-gomaxprocs",
        "auto-gomemlimit",
        "auto-reload-config",
        "concurrent-rule-eval",
        "created-timestamp-zero-ingestion",
        "delayed-compaction",
        "exemplar-storage",
        "expand-external-labels",
        "extra-scrape-metrics",
        "fast-startup",
        "metadata-wal-records",
        "native-histograms",
        "new-service-discovery-manager",
        "no-default-scrape-port",
        "old-ui",
        "otlp-deltatocumulative",
        "otlp-native-delta-ingestion",
        "otlp-write-receiver",
        "promql-per-step-stats",
        "st-storage",
        "st-synthesis",
        "use-uncached-io",
        "xor2-encoding",
    }
)
"""Features of Prometheus that change nothing here; accepted with a warning."""


def parse_features(lists: Iterable[str]) -> Features:
    """The switches of comma separated lists of names. A name nobody knows is a warning, as in Prometheus."""
    settable = {field.name.replace("_", "-"): field.name for field in fields(Features)}
    chosen: dict[str, bool] = {}
    for name in (part.strip() for text in lists for part in text.split(",")):
        if name in settable:
            chosen[settable[name]] = True
        elif name in NOT_HERE:
            log.warning("feature changes nothing in promlike", extra={"feature": name})
        elif name and name not in ALWAYS_ON:
            log.warning("unknown option for --enable-feature", extra={"option": name})
    return Features(**chosen)
