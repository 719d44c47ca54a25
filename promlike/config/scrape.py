"""One scrape config: how a job is scraped, and what its samples may look like."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from promlike.config.discovery import DiscoveryConfig
from promlike.config.http_client import HTTPClientConfig
from promlike.config.relabel import RelabelConfig
from promlike.config.section import inline, section, setting
from promlike.config.values import BOOLEAN, DURATION, PATH, SIZE, SWITCH, TEXT, Kind, checked, choice, integer, items, mapping, number

PROTOCOLS = {
    "PrometheusProto": "",
    "OpenMetricsText0.0.1": "application/openmetrics-text;version=0.0.1",
    "OpenMetricsText1.0.0": "application/openmetrics-text;version=1.0.0",
    "PrometheusText0.0.4": "text/plain;version=0.0.4",
    "PrometheusText1.0.0": "text/plain;version=1.0.0",
}
"""The exposition formats by name, with the media type to ask for; promlike does not read the protobuf format and never asks for it."""

DEFAULT_PROTOCOLS = ("OpenMetricsText1.0.0", "OpenMetricsText0.0.1", "PrometheusText1.0.0", "PrometheusText0.0.4")

NO_NATIVE = "native histograms are not scraped yet; the classic histograms of the same metric are"


def _protocols(names: tuple[str, ...]) -> str:
    if len(set(names)) != len(names):
        return "every protocol may be named once only"
    if names and not any(PROTOCOLS[name] for name in names):
        return "promlike does not read PrometheusProto; name a text protocol beside it"
    return ""


PROTOCOL_LIST: Kind[tuple[str, ...]] = checked(items(choice(*PROTOCOLS)), _protocols)
JOB_NAME = checked(TEXT, lambda text: "" if text else "the name of a job cannot be empty")
URL_PATH = checked(TEXT, lambda text: "" if text.startswith("/") else f'"{text}" must start with a /')
VALIDATION = choice("", "utf8", "legacy")
ESCAPING = choice("", "allow-utf-8", "underscores", "dots", "values")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrapeConfig:
    """A job. What is 0, empty or None in the file is taken from `global`; a loaded config holds the values that are in force."""

    job_name: str = setting(JOB_NAME, "Name of the job, unique in the file; becomes the label `job`.")
    honor_labels: bool = setting(BOOLEAN, "Keep scraped labels that clash with the target's, instead of renaming them.", default=False)
    honor_timestamps: bool = setting(BOOLEAN, "Use timestamps that the target exposes.", default=True, shown=True)
    track_timestamps_staleness: bool = setting(
        BOOLEAN, "Mark series that went away as stale even when they have timestamps.", default=False, shown=True
    )
    params: tuple[tuple[str, tuple[str, ...]], ...] = setting(mapping(items(TEXT)), "Parameters of the scrape URL.", default=())
    scrape_interval_ms: int = setting(DURATION, "How often targets are scraped.", name="scrape_interval", default=0, shown=True)
    scrape_timeout_ms: int = setting(DURATION, "How long a scrape may take.", name="scrape_timeout", default=0, shown=True)
    scrape_protocols: tuple[str, ...] = setting(PROTOCOL_LIST, "Exposition formats to ask for, the best first.", default=(), shown=True)
    fallback_scrape_protocol: str = setting(
        choice("", *PROTOCOLS), "Format to assume when a target sends no content type or an unknown one.", default=""
    )
    scrape_native_histograms: bool | None = setting(SWITCH, "Scrape native histograms.", default=None, not_acted_on=NO_NATIVE)
    always_scrape_classic_histograms: bool | None = setting(SWITCH, "Scrape classic histograms beside native ones.", default=None)
    scrape_classic_histograms: bool | None = setting(SWITCH, "Old name of always_scrape_classic_histograms.", default=None)
    convert_classic_histograms_to_nhcb: bool | None = setting(
        SWITCH, "Turn classic histograms into native ones with custom buckets.", default=None, not_acted_on=NO_NATIVE
    )
    extra_scrape_metrics: bool | None = setting(
        SWITCH, "Also store scrape_timeout_seconds, scrape_sample_limit and scrape_body_size_bytes.", default=None
    )
    metrics_path: str = setting(URL_PATH, "Path of the scrape URL.", default="/metrics", shown=True)
    scheme: str = setting(choice("http", "https"), "Scheme of the scrape URL.", default="http", shown=True)
    enable_compression: bool = setting(BOOLEAN, "Ask for a gzip body.", default=True, shown=True)
    scrape_failure_log_file: str = setting(PATH, "File that failed scrapes are written to, one JSON object a line.", default="")
    body_size_limit: int = setting(SIZE, "Largest uncompressed body; 0 means no limit.", default=0)
    sample_limit: int = setting(integer(), "Most samples of a scrape after metric relabelling; 0 means no limit.", default=0)
    target_limit: int = setting(integer(), "Most targets of the job; with more of them every scrape fails. 0 means no limit.", default=0)
    label_limit: int = setting(integer(), "Most labels of a series; 0 means no limit.", default=0)
    label_name_length_limit: int = setting(integer(), "Longest label name in bytes; 0 means no limit.", default=0)
    label_value_length_limit: int = setting(integer(), "Longest label value in bytes; 0 means no limit.", default=0)
    native_histogram_bucket_limit: int = setting(integer(), "Most buckets of a native histogram.", default=0, not_acted_on=NO_NATIVE)
    native_histogram_min_bucket_factor: float = setting(
        number(), "Finest resolution of native histograms.", default=0.0, not_acted_on=NO_NATIVE
    )
    keep_dropped_targets: int = setting(integer(), "How many dropped targets are remembered; 0 means all.", default=0)
    metric_name_validation_scheme: str = setting(VALIDATION, "Which metric and label names are valid: utf8 or legacy.", default="")
    metric_name_escaping_scheme: str = setting(ESCAPING, "How targets are asked to escape names.", default="")
    http: HTTPClientConfig = inline(HTTPClientConfig)
    discovery: DiscoveryConfig = inline(DiscoveryConfig)
    relabel_configs: tuple[RelabelConfig, ...] = setting(
        items(section(RelabelConfig)), "Rules applied to targets before they are scraped.", default=()
    )
    metric_relabel_configs: tuple[RelabelConfig, ...] = setting(
        items(section(RelabelConfig)), "Rules applied to scraped series before they are stored.", default=()
    )
    where: str = field(default="", compare=False)
    """File and line, for messages."""

    def check(self) -> Iterator[tuple[str, str]]:
        if self.fallback_scrape_protocol == "PrometheusProto":
            yield "fallback_scrape_protocol", "promlike does not read PrometheusProto; name a text protocol"
