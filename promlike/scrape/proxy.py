"""Which proxy a request goes through, if any."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from promlike.config.http_client import ProxyConfig

DEFAULT_PORTS = {"http": 80, "https": 443}


def proxy_for(url: str, config: ProxyConfig, environ: Mapping[str, str]) -> str | None:
    """The proxy's URL, or None for a direct connection."""
    parts = urlsplit(url)
    if config.proxy_url:
        return None if _excluded(parts, config.no_proxy) else config.proxy_url
    if not config.proxy_from_environment or parts.hostname in ("localhost", "127.0.0.1", "::1"):
        return None
    proxy = _variable(environ, f"{parts.scheme}_proxy")
    return proxy if proxy and not _excluded(parts, _variable(environ, "no_proxy")) else None


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper(), "")


def _excluded(parts: SplitResult, no_proxy: str) -> bool:
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    return any(_matches(parts.hostname or "", port, entry.strip().lower()) for entry in no_proxy.split(",") if entry.strip())


def _matches(host: str, port: int, entry: str) -> bool:
    """An entry is `*`, an IP, a CIDR, a host with its subdomains, or `.domain` for subdomains alone; all but CIDRs may name a port."""
    if entry == "*":
        return True
    if "/" in entry:
        return _in_network(host, entry)
    name, colon, only_port = entry.rpartition(":")
    if colon and only_port.isdigit() and (name.count(":") == 0 or name.startswith("[")):
        if int(only_port) != port:
            return False
        entry = name.strip("[]")
    return host == entry or host.endswith(entry if entry.startswith(".") else "." + entry)


def _in_network(host: str, network: str) -> bool:
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False
