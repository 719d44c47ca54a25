"""The whole file: `Config` and its global sections."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from promlike.config.discovery import LABELS
from promlike.config.names import GLOB
from promlike.config.remote import AlertingConfig, RemoteReadConfig, RemoteWriteConfig, TracingConfig
from promlike.config.scrape import DEFAULT_PROTOCOLS, ESCAPING, NO_NATIVE, PROTOCOL_LIST, VALIDATION, ScrapeConfig
from promlike.config.section import optional, section, setting
from promlike.config.values import BOOLEAN, DURATION, PATH, POSITIVE_DURATION, SIZE, TEXT, choice, integer, items, number

NO_RULES = "rules are not evaluated yet"
NO_GO = "a setting of Go's runtime, which promlike does not have"
ANY_AGE = "samples of any age inside retention are accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalConfig:
    """Defaults of all jobs, and labels of this server."""

    scrape_interval_ms: int = setting(
        POSITIVE_DURATION, "How often targets are scraped.", name="scrape_interval", default=60_000, shown=True
    )
    scrape_timeout_ms: int = setting(
        DURATION, "How long a scrape may take; 10s, or the interval where that is shorter.", name="scrape_timeout", default=0, shown=True
    )
    scrape_protocols: tuple[str, ...] = setting(
        PROTOCOL_LIST, "Exposition formats to ask for, the best first.", default=DEFAULT_PROTOCOLS, shown=True
    )
    evaluation_interval_ms: int = setting(
        DURATION,
        "How often rules are evaluated, and the step of subqueries that state none.",
        name="evaluation_interval",
        default=60_000,
        shown=True,
    )
    rule_query_offset_ms: int = setting(DURATION, "How far in the past rules are evaluated.", name="rule_query_offset", default=0)
    query_log_file: str = setting(PATH, "File that queries are written to, one JSON object a line.", default="")
    scrape_failure_log_file: str = setting(PATH, "File that failed scrapes are written to, one JSON object a line.", default="")
    external_labels: tuple[tuple[str, str], ...] = setting(
        LABELS, "Labels of this server for others: federation, alerts, remote storage. ${VAR} is taken from the environment.", default=()
    )
    body_size_limit: int = setting(SIZE, "Largest uncompressed body of a scrape; 0 means no limit.", default=0)
    sample_limit: int = setting(integer(), "Most samples of a scrape; 0 means no limit.", default=0)
    target_limit: int = setting(integer(), "Most targets of a job; 0 means no limit.", default=0)
    label_limit: int = setting(integer(), "Most labels of a series; 0 means no limit.", default=0)
    label_name_length_limit: int = setting(integer(), "Longest label name in bytes; 0 means no limit.", default=0)
    label_value_length_limit: int = setting(integer(), "Longest label value in bytes; 0 means no limit.", default=0)
    keep_dropped_targets: int = setting(integer(), "How many dropped targets of a job are remembered; 0 means all.", default=0)
    metric_name_validation_scheme: str = setting(VALIDATION, "Which metric and label names are valid: utf8 or legacy.", default="utf8")
    metric_name_escaping_scheme: str = setting(ESCAPING, "How targets are asked to escape names.", default="allow-utf-8")
    scrape_native_histograms: bool = setting(BOOLEAN, "Scrape native histograms.", default=False, not_acted_on=NO_NATIVE)
    always_scrape_classic_histograms: bool = setting(BOOLEAN, "Scrape classic histograms beside native ones.", default=False)
    convert_classic_histograms_to_nhcb: bool = setting(
        BOOLEAN, "Turn classic histograms into native ones with custom buckets.", default=False, not_acted_on=NO_NATIVE
    )
    extra_scrape_metrics: bool = setting(
        BOOLEAN, "Also store scrape_timeout_seconds, scrape_sample_limit and scrape_body_size_bytes.", default=False
    )

    def check(self) -> Iterator[tuple[str, str]]:
        if self.scrape_timeout_ms > self.scrape_interval_ms:
            yield "scrape_timeout", "the timeout of a scrape cannot be longer than scrape_interval"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeConfig:
    """Settings of Go's runtime."""

    gogc: int = setting(integer(-1), "Go's garbage collector.", default=75, not_acted_on=NO_GO)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionConfig:
    """How long samples are kept."""

    time_ms: int = setting(DURATION, "How long samples are kept, in place of --storage.tsdb.retention.time.", name="time", default=0)
    size: int = setting(SIZE, "How many bytes the store may take, in place of --storage.tsdb.retention.size.", default=0)
    percentage: float = setting(
        number(0, 100), "Share of the disk the store may take.", default=0.0, not_acted_on="name the bytes as size instead"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TSDBConfig:
    """Settings of the storage that can change at run time."""

    out_of_order_time_window_ms: int = setting(
        DURATION, "How old a late sample may be.", name="out_of_order_time_window", default=0, not_acted_on=ANY_AGE
    )
    retention: RetentionConfig | None = setting(optional(RetentionConfig), "How long samples are kept.", default=None)
    stale_series_compaction_threshold: float = setting(
        number(0, 1), "Share of stale series that starts a compaction.", default=0.0, not_acted_on="there is no such compaction here"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExemplarsConfig:
    """Exemplars."""

    max_exemplars: int = setting(
        integer(-1), "How many exemplars may wait for the store, and how many a query gets; 0 keeps none.", default=100_000
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepConfig:
    """How long some series are kept, in place of the time for all. Of several that fit the first counts."""

    match: str = setting(TEXT, "A series selector, as in match[] of the API.")
    keep_ms: int = setting(DURATION, "How long samples are kept; 0s means for ever.", name="keep")
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    """Settings of the storage."""

    retention: tuple[KeepConfig, ...] = setting(
        items(section(KeepConfig)), "Other times than that of all series for some; a key that only promlike has.", default=()
    )

    tsdb: TSDBConfig | None = setting(optional(TSDBConfig), "Samples.", default=None)
    exemplars: ExemplarsConfig | None = setting(optional(ExemplarsConfig), "Exemplars.", default=None)


TRANSLATION = choice("UnderscoreEscapingWithSuffixes", "UnderscoreEscapingWithoutSuffixes", "NoUTF8EscapingWithSuffixes", "NoTranslation")


@dataclass(frozen=True, slots=True, kw_only=True)
class OTLPConfig:
    """How OTLP metrics become series."""

    promote_all_resource_attributes: bool = setting(BOOLEAN, "Turn every resource attribute into a label.", default=False)
    promote_resource_attributes: tuple[str, ...] = setting(items(TEXT), "Resource attributes that become labels.", default=())
    ignore_resource_attributes: tuple[str, ...] = setting(items(TEXT), "Resource attributes that do not.", default=())
    translation_strategy: str = setting(TRANSLATION, "How names are translated.", default="UnderscoreEscapingWithSuffixes")
    keep_identifying_resource_attributes: bool = setting(BOOLEAN, "Keep service.* in target_info.", default=False)
    convert_histograms_to_nhcb: bool = setting(BOOLEAN, "Turn histograms into native ones with custom buckets.", default=False)
    promote_scope_metadata: bool = setting(BOOLEAN, "Turn name and version of the scope into labels.", default=False)
    label_name_underscore_sanitization: bool = setting(BOOLEAN, "Put `key_` before labels that start with an underscore.", default=True)
    label_name_preserve_multiple_underscores: bool = setting(BOOLEAN, "Keep several underscores in a row.", default=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A configuration file that was read and found valid."""

    global_: GlobalConfig = setting(section(GlobalConfig), "Defaults.", name="global", default=GlobalConfig(), shown=True)
    runtime: RuntimeConfig = setting(section(RuntimeConfig), "Go's runtime.", default=RuntimeConfig())
    alerting: AlertingConfig = setting(section(AlertingConfig), "Where alerts go.", default=AlertingConfig(), not_acted_on=NO_RULES)
    rule_files: tuple[str, ...] = setting(items(GLOB), "Rule files.", default=(), not_acted_on=NO_RULES)
    scrape_config_files: tuple[str, ...] = setting(items(GLOB), "Further files with scrape_configs.", default=())
    scrape_configs: tuple[ScrapeConfig, ...] = setting(items(section(ScrapeConfig)), "Jobs.", default=())
    storage: StorageConfig = setting(section(StorageConfig), "Storage.", default=StorageConfig())
    tracing: TracingConfig | None = setting(optional(TracingConfig), "Traces.", default=None, not_acted_on="promlike sends no traces yet")
    remote_write: tuple[RemoteWriteConfig, ...] = setting(
        items(section(RemoteWriteConfig)), "Storages to write to.", default=(), not_acted_on="samples are not sent to other storages yet"
    )
    remote_read: tuple[RemoteReadConfig, ...] = setting(
        items(section(RemoteReadConfig)), "Storages to read from.", default=(), not_acted_on="other storages are not asked by queries yet"
    )
    otlp: OTLPConfig | None = setting(optional(OTLPConfig), "OTLP metrics.", default=None, not_acted_on="there is no OTLP receiver yet")
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What to tell the user at start, one line each."""
    file: str = field(default="", compare=False)
