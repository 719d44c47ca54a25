"""Where targets come from: the discoveries promlike runs, and the key names of those it only knows."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from promlike.config.document import Document, Invalid, Node, entries, kind_of
from promlike.config.http_client import HTTPClientConfig
from promlike.config.secret import MASK
from promlike.config.section import inline, known_names, section, setting, table, unknown_key
from promlike.config.values import DURATION, PATH, POSITIVE_DURATION, TEXT, URL, Kind, checked, items, mapping


def _labels_kind() -> Kind[tuple[tuple[str, str], ...]]:
    def names(pairs: tuple[tuple[str, str], ...]) -> str:
        return "a label name cannot be empty" if any(not name for name, _ in pairs) else ""

    return checked(mapping(TEXT), names)


LABELS = _labels_kind()


def _target(text: str) -> str:
    if not text:
        return "a target cannot be empty; write host:port"
    return f'"{text}" is not a target: write host:port without a path (the path belongs into metrics_path)' if "/" in text else ""


TARGET: Kind[str] = checked(TEXT, _target)


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticConfig:
    """Targets written into the file."""

    targets: tuple[str, ...] = setting(items(TARGET), "Addresses, host:port.", default=(), shown=True)
    labels: tuple[tuple[str, str], ...] = setting(LABELS, "Labels that all these targets get.", default=())


_SD_FILE = re.compile(r"[^*]*(\*[^/]*)?\.(json|yml|yaml|JSON|YML|YAML)")


def _sd_file(text: str) -> str:
    return "" if _SD_FILE.fullmatch(text) else f'"{text}" must end in .json, .yml or .yaml, and a * may stand only in its last part'


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSDConfig:
    """Targets from JSON or YAML files, followed as they change."""

    files: tuple[str, ...] = setting(items(checked(PATH, _sd_file)), "Files; the last part of a path may hold a *.")
    refresh_interval_ms: int = setting(
        DURATION, "How often the files are read even when no change was seen.", name="refresh_interval", default=300_000, shown=True
    )

    def check(self) -> Iterator[tuple[str, str]]:
        if not self.files:
            yield "files", "at least one file is needed"


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPSDConfig:
    """Targets from an HTTP endpoint that answers in the JSON of file_sd."""

    url: str = setting(URL, "Where the targets are asked for.")
    refresh_interval_ms: int = setting(
        POSITIVE_DURATION, "How often they are asked for.", name="refresh_interval", default=60_000, shown=True
    )
    http: HTTPClientConfig = inline(HTTPClientConfig)

    def check(self) -> Iterator[tuple[str, str]]:
        if not self.url.startswith(("http://", "https://")):
            yield "url", f'"{self.url}" must start with http:// or https://'


_HTTP = " ".join(known_names(HTTPClientConfig))
_REFRESH = f"{_HTTP} port refresh_interval"
_AWS = f"region endpoint access_key secret_key profile role_arn external_id {_REFRESH}"
_DOCKER = f"host filters {_REFRESH}"

OTHER_DISCOVERIES: dict[str, frozenset[str]] = {
    name: frozenset(keys.split())
    for name, keys in {
        "aws_sd_configs": f"role filters clusters request_concurrency {_AWS}",
        "azure_sd_configs": "environment authentication_method subscription_id tenant_id client_id client_secret resource_group "
        + _REFRESH,
        "consul_sd_configs": "server path_prefix token datacenter namespace partition scheme username password services tags node_meta "
        f"tag_separator allow_stale filter health_filter refresh_interval {_HTTP}",
        "digitalocean_sd_configs": _REFRESH,
        "dns_sd_configs": "names type port refresh_interval",
        "docker_sd_configs": f"host_networking_host match_first_network {_DOCKER}",
        "dockerswarm_sd_configs": f"role {_DOCKER}",
        "ec2_sd_configs": f"filters {_AWS}",
        "ecs_sd_configs": f"clusters request_concurrency {_AWS}",
        "elasticache_sd_configs": f"clusters request_concurrency {_AWS}",
        "eureka_sd_configs": f"server refresh_interval {_HTTP}",
        "gce_sd_configs": "project zone filter refresh_interval port tag_separator",
        "hetzner_sd_configs": f"role label_selector {_REFRESH}",
        "ionos_sd_configs": f"datacenter_id {_REFRESH}",
        "kubernetes_sd_configs": f"api_server role kubeconfig_file namespaces selectors attach_metadata {_HTTP}",
        "kuma_sd_configs": f"server client_id refresh_interval fetch_timeout {_HTTP}",
        "lightsail_sd_configs": _AWS,
        "linode_sd_configs": f"region tag_separator {_REFRESH}",
        "marathon_sd_configs": f"servers auth_token auth_token_file refresh_interval {_HTTP}",
        "msk_sd_configs": f"clusters request_concurrency {_AWS}",
        "nerve_sd_configs": "servers paths timeout",
        "nomad_sd_configs": f"server allow_stale namespace region tag_separator refresh_interval {_HTTP}",
        "oci_sd_configs": f"tenancy user fingerprint key_file pass_phrase region compartment authentication_method {_REFRESH}",
        "openstack_sd_configs": "role region identity_endpoint username userid password domain_name domain_id project_name project_id "
        "application_credential_name application_credential_id application_credential_secret all_tenants refresh_interval port "
        "availability tls_config",
        "outscale_sd_configs": f"region access_key secret_key endpoint {_REFRESH}",
        "ovhcloud_sd_configs": "application_key application_secret consumer_key endpoint service refresh_interval",
        "puppetdb_sd_configs": f"url query include_parameters {_REFRESH}",
        "rds_sd_configs": f"filters clusters request_concurrency {_AWS}",
        "scaleway_sd_configs": f"role project_id access_key secret_key secret_key_file zone api_url name_filter tags_filter {_REFRESH}",
        "serverset_sd_configs": "servers paths timeout",
        "stackit_sd_configs": "project endpoint region service_account_key service_account_key_path private_key private_key_path "
        + _REFRESH,
        "triton_sd_configs": "account dns_suffix endpoint groups port role refresh_interval version tls_config",
        "uyuni_sd_configs": f"server username password entitlement separator refresh_interval {_HTTP}",
        "vultr_sd_configs": _REFRESH,
    }.items()
}
"""Keys of the discoveries that are known by name only."""

NOT_RUN = "this service discovery is not supported yet, so it finds no targets; file_sd_configs and http_sd_configs can stand in for it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A part of the file whose key names were checked and nothing more; `data` is plain, with secrets masked."""

    data: object


def unread(names: frozenset[str]) -> Kind[Unread]:
    """A list of mappings that may have these keys."""

    def read(node: Node, document: Document, path: str) -> Unread:
        if not isinstance(node, yaml.SequenceNode):
            raise Invalid(node, f"a list is needed here, not {kind_of(node)}")
        for index, entry in enumerate(node.value):
            if isinstance(entry, yaml.MappingNode):
                for label, _ in entries(entry, document, f"{path}[{index}]"):
                    if label.value not in names:
                        unknown_key(label, names, document, f"{path}[{index}]")
            else:
                document.problem(entry, f"{path}[{index}]", f"a mapping of keys is needed here, not {kind_of(entry)}")
        return Unread(data=_masked(yaml.SafeLoader("").construct_document(node)))

    return Kind(read=read, write=lambda value: value.data)


_SECRET_KEYS = re.compile(
    r"(.*_)?(password|secret|secret_key|token|credentials|passphrase|pass_phrase|consumer_key|private_key|service_account_key)"
)


def _masked(data: object) -> object:
    if isinstance(data, dict):
        return {name: MASK if value and _SECRET_KEYS.fullmatch(str(name)) else _masked(value) for name, value in data.items()}
    return [_masked(value) for value in data] if isinstance(data, list) else data


OTHER_DISCOVERY_KINDS: dict[str, Kind[Unread]] = {name: unread(keys) for name, keys in OTHER_DISCOVERIES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryConfig:
    """Everything that finds targets; the keys stand inside scrape configs and alertmanager configs."""

    static_configs: tuple[StaticConfig, ...] = setting(items(section(StaticConfig)), "Targets written into this file.", default=())
    file_sd_configs: tuple[FileSDConfig, ...] = setting(items(section(FileSDConfig)), "Targets from files.", default=())
    http_sd_configs: tuple[HTTPSDConfig, ...] = setting(items(section(HTTPSDConfig)), "Targets from HTTP endpoints.", default=())
    others: tuple[tuple[str, Unread], ...] = table(OTHER_DISCOVERY_KINDS, "Other service discoveries.", not_acted_on=NOT_RUN)
