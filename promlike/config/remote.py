"""Sections of other systems: Alertmanager, remote storage, tracing. Read, checked and kept."""

from collections.abc import Iterator
from dataclasses import dataclass

from promlike.config.discovery import DiscoveryConfig
from promlike.config.http_client import HTTPClientConfig, TLSConfig
from promlike.config.relabel import RelabelConfig
from promlike.config.secret import Secret
from promlike.config.section import inline, optional, section, setting
from promlike.config.values import BOOLEAN, DURATION, PATH, SECRET, TEXT, URL, choice, integer, items, mapping, number


@dataclass(frozen=True, slots=True, kw_only=True)
class SigV4Config:
    """AWS Signature Version 4."""

    region: str = setting(TEXT, "AWS region.", default="")
    access_key: str = setting(TEXT, "AWS access key.", default="")
    secret_key: Secret = setting(SECRET, "AWS secret key.", default=Secret(""))
    profile: str = setting(TEXT, "AWS profile.", default="")
    role_arn: str = setting(TEXT, "AWS role.", default="")
    external_id: str = setting(TEXT, "External id when assuming the role.", default="")
    use_fips_sts_endpoint: bool = setting(BOOLEAN, "Use the FIPS endpoint of STS.", default=False)
    service_name: str = setting(TEXT, "AWS service to sign for.", default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertmanagerConfig:
    """Alertmanagers that alerts are sent to."""

    timeout_ms: int = setting(DURATION, "How long one send may take.", name="timeout", default=10_000, shown=True)
    api_version: str = setting(choice("v2"), "Version of Alertmanager's API.", default="v2", shown=True)
    path_prefix: str = setting(TEXT, "What stands before the path of the API.", default="/")
    scheme: str = setting(choice("http", "https"), "Scheme of requests.", default="http", shown=True)
    sigv4: SigV4Config | None = setting(
        optional(SigV4Config), "Sign requests for AWS.", default=None, not_acted_on="requests are not signed for AWS yet"
    )
    http: HTTPClientConfig = inline(HTTPClientConfig)
    discovery: DiscoveryConfig = inline(DiscoveryConfig)
    relabel_configs: tuple[RelabelConfig, ...] = setting(items(section(RelabelConfig)), "Rules that choose Alertmanagers.", default=())
    alert_relabel_configs: tuple[RelabelConfig, ...] = setting(
        items(section(RelabelConfig)), "Rules applied to alerts sent there.", default=()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertingConfig:
    """Where alerts go."""

    alert_relabel_configs: tuple[RelabelConfig, ...] = setting(items(section(RelabelConfig)), "Rules applied to all alerts.", default=())
    alertmanagers: tuple[AlertmanagerConfig, ...] = setting(items(section(AlertmanagerConfig)), "Alertmanagers.", default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueConfig:
    """The queue of a remote write."""

    capacity: int = setting(integer(1), "Samples a shard holds.", default=10_000)
    max_shards: int = setting(integer(1), "Most shards.", default=50)
    min_shards: int = setting(integer(1), "Fewest shards.", default=1)
    max_samples_per_send: int = setting(integer(1), "Most samples of one request.", default=2000)
    batch_send_deadline_ms: int = setting(DURATION, "How long a sample waits for a request.", name="batch_send_deadline", default=5000)
    min_backoff_ms: int = setting(DURATION, "First pause before a retry.", name="min_backoff", default=30)
    max_backoff_ms: int = setting(DURATION, "Longest pause before a retry.", name="max_backoff", default=5000)
    retry_on_http_429: bool = setting(BOOLEAN, "Retry after 429.", default=False)
    sample_age_limit_ms: int = setting(DURATION, "Oldest samples to send; 0 means any.", name="sample_age_limit", default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataConfig:
    """Metadata of a remote write."""

    send: bool = setting(BOOLEAN, "Send metadata.", default=True, shown=True)
    send_interval_ms: int = setting(DURATION, "How often.", name="send_interval", default=60_000)
    max_samples_per_send: int = setting(integer(1), "Most entries of one request.", default=2000)


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureManagedIdentity:
    """A managed identity of Azure."""

    client_id: str = setting(TEXT, "The client.", default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureOAuth:
    """OAuth of Azure."""

    client_id: str = setting(TEXT, "The client.", default="")
    client_secret: Secret = setting(SECRET, "Its secret.", default=Secret(""))
    tenant_id: str = setting(TEXT, "The tenant.", default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureSDK:
    """The SDK of Azure."""

    tenant_id: str = setting(TEXT, "The tenant.", default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureWorkloadIdentity:
    """A workload identity of Azure."""

    client_id: str = setting(TEXT, "The client.", default="")
    tenant_id: str = setting(TEXT, "The tenant.", default="")
    token_file_path: str = setting(PATH, "File of the token.", default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureADConfig:
    """Authentication at Azure."""

    cloud: str = setting(TEXT, "The Azure cloud.", default="AzurePublic")
    managed_identity: AzureManagedIdentity | None = setting(optional(AzureManagedIdentity), "A managed identity.", default=None)
    workload_identity: AzureWorkloadIdentity | None = setting(optional(AzureWorkloadIdentity), "A workload identity.", default=None)
    oauth: AzureOAuth | None = setting(optional(AzureOAuth), "OAuth.", default=None)
    sdk: AzureSDK | None = setting(optional(AzureSDK), "The SDK.", default=None)
    scope: str = setting(TEXT, "Scope of the token.", default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoogleIAMConfig:
    """Authentication at Google Cloud."""

    credentials_file: str = setting(PATH, "File of the service account's key.", default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteWriteConfig:
    """A remote storage to write to."""

    url: str = setting(URL, "Where samples are sent.")
    name: str = setting(TEXT, "Name in metrics and messages.", default="")
    protobuf_message: str = setting(
        choice("prometheus.WriteRequest", "io.prometheus.write.v2.Request"), "Message to send.", default="prometheus.WriteRequest"
    )
    remote_timeout_ms: int = setting(DURATION, "How long a request may take.", name="remote_timeout", default=30_000, shown=True)
    headers: tuple[tuple[str, str], ...] = setting(mapping(TEXT), "Further headers.", default=())
    write_relabel_configs: tuple[RelabelConfig, ...] = setting(items(section(RelabelConfig)), "Rules applied before sending.", default=())
    send_exemplars: bool = setting(BOOLEAN, "Send exemplars.", default=False)
    send_native_histograms: bool = setting(BOOLEAN, "Send native histograms.", default=False)
    round_robin_dns: bool = setting(BOOLEAN, "Choose among the addresses of the host at random.", default=False)
    queue_config: QueueConfig | None = setting(optional(QueueConfig), "The queue.", default=None)
    metadata_config: MetadataConfig | None = setting(optional(MetadataConfig), "Metadata.", default=None)
    sigv4: SigV4Config | None = setting(optional(SigV4Config), "Sign requests for AWS.", default=None)
    azuread: AzureADConfig | None = setting(optional(AzureADConfig), "Authenticate at Azure.", default=None)
    google_iam: GoogleIAMConfig | None = setting(optional(GoogleIAMConfig), "Authenticate at Google Cloud.", default=None)
    http: HTTPClientConfig = inline(HTTPClientConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteReadConfig:
    """A remote storage to read from."""

    url: str = setting(URL, "Where samples are asked for.")
    name: str = setting(TEXT, "Name in metrics and messages.", default="")
    remote_timeout_ms: int = setting(DURATION, "How long a request may take.", name="remote_timeout", default=60_000, shown=True)
    chunked_read_limit: int = setting(integer(), "Largest frame of a streamed answer in bytes.", default=50_000_000)
    headers: tuple[tuple[str, str], ...] = setting(mapping(TEXT), "Further headers.", default=())
    required_matchers: tuple[tuple[str, str], ...] = setting(mapping(TEXT), "Matchers a selector must have.", default=())
    read_recent: bool = setting(BOOLEAN, "Ask even for times that are stored locally.", default=False)
    filter_external_labels: bool = setting(BOOLEAN, "Add the external labels as matchers.", default=True)
    http: HTTPClientConfig = inline(HTTPClientConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingConfig:
    """Where traces go."""

    client_type: str = setting(choice("grpc", "http"), "Protocol.", default="grpc")
    endpoint: str = setting(TEXT, "The collector.", default="")
    sampling_fraction: float = setting(number(0, 1), "Share of traces that are kept.", default=0.0)
    insecure: bool = setting(BOOLEAN, "Do without TLS.", default=False)
    headers: tuple[tuple[str, str], ...] = setting(mapping(TEXT), "Further headers.", default=())
    http_headers: tuple[tuple[str, str], ...] = setting(mapping(TEXT), "Further headers.", default=())
    compression: str = setting(choice("", "gzip", "none"), "Compression.", default="")
    timeout_ms: int = setting(DURATION, "How long an export may take.", name="timeout", default=10_000)
    tls_config: TLSConfig | None = setting(optional(TLSConfig), "TLS towards the collector.", default=None)

    def check(self) -> Iterator[tuple[str, str]]:
        if not self.endpoint:
            yield "endpoint", "the endpoint cannot be empty"
