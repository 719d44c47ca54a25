"""Targets: from what a discovery says to what is scraped."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

import xxhash

from promlike.config.scrape import ScrapeConfig
from promlike.errors import BadRequest
from promlike.model.durations import format_duration, parse_duration
from promlike.model.labels import Labels, labels
from promlike.scrape.relabel import Rule, relabel

ADDRESS, SCHEME, PATH, PARAM = "__address__", "__scheme__", "__metrics_path__", "__param_"
INTERVAL, TIMEOUT = "__scrape_interval__", "__scrape_timeout__"

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetGroup:
    """Targets that a discovery found together: their addresses, and labels they share."""

    targets: tuple[str, ...]
    labels: Labels = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One place to scrape. Two targets with the same `labels` and `url` are the same."""

    discovered: Labels
    labels: Labels
    url: str
    interval_ms: int
    timeout_ms: int

    @property
    def identity(self) -> tuple[Labels, str]:
        return self.labels, self.url

    def offset_ms(self, now_ms: int, seed: int) -> int:
        """How long to wait from now, so that the targets of a server, and the servers of a pair, spread over the interval."""
        digest = xxhash.xxh64_intdigest("\0".join([self.url, *(f"{name}\0{value}" for name, value in self.labels)]))
        return ((digest ^ seed) - now_ms) % self.interval_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What became of the groups of a job: `dropped` by relabelling, or wrong, with the reason among the `problems`."""

    active: tuple[Target, ...]
    dropped: tuple[Labels, ...]
    problems: tuple[str, ...]


def build_targets(groups: Iterable[TargetGroup], config: ScrapeConfig, rules: tuple[Rule, ...]) -> Targets:
    """Relabel every target of the groups; of equal ones the first stays."""
    active: dict[tuple[Labels, str], Target] = {}
    dropped: list[Labels] = []
    problems: list[str] = []
    for found in _discovered(groups, config):
        merged = dict(found)
        if not relabel(merged, rules):
            dropped.append(labels(found))
            continue
        try:
            target = _target(labels(found), merged, config)
        except BadRequest as error:
            problems.append(f'target {found.get(ADDRESS)!r} of job "{config.job_name}": {error}')
            continue
        active.setdefault(target.identity, target)
    return Targets(active=tuple(active.values()), dropped=tuple(dropped), problems=tuple(problems))


def _discovered(groups: Iterable[TargetGroup], config: ScrapeConfig) -> Iterator[dict[str, str]]:
    """The labels of each target before relabelling."""
    defaults = {
        "job": config.job_name,
        INTERVAL: format_duration(config.scrape_interval_ms),
        TIMEOUT: format_duration(config.scrape_timeout_ms),
        PATH: config.metrics_path,
        SCHEME: config.scheme,
        **{PARAM + name: values[0] for name, values in config.params if values},
    }
    for group in groups:
        shared = {name: value for name, value in group.labels if value}
        for address in group.targets:
            yield {**defaults, **shared, ADDRESS: address}


def _target(discovered: Labels, merged: dict[str, str], config: ScrapeConfig) -> Target:
    address = merged.get(ADDRESS, "")
    if not address:
        raise BadRequest("no address")
    if "/" in address:
        raise BadRequest(f"{address!r} is not a valid host:port")
    interval_ms = parse_duration(merged.get(INTERVAL, ""))
    timeout_ms = parse_duration(merged.get(TIMEOUT, ""))
    if not interval_ms or not timeout_ms:
        raise BadRequest(f"scrape interval and timeout must be above 0, not {merged.get(INTERVAL)} and {merged.get(TIMEOUT)}")
    if timeout_ms > interval_ms:
        raise BadRequest(f"the scrape timeout {merged[TIMEOUT]} is longer than the interval {merged[INTERVAL]}")
    public = {"instance": address, **{name: value for name, value in merged.items() if not name.startswith("__")}}
    return Target(
        discovered=discovered, labels=labels(public), url=_url(address, merged, config), interval_ms=interval_ms, timeout_ms=timeout_ms
    )


def _url(address: str, merged: dict[str, str], config: ScrapeConfig) -> str:
    scheme = merged.get(SCHEME, "")
    if scheme not in ("http", "https"):
        raise BadRequest(f'the scheme is http or https, not "{scheme}"')
    params = {name: list(values) for name, values in config.params}
    for name, value in merged.items():
        if name.startswith(PARAM):
            params[name.removeprefix(PARAM)] = [value, *params.get(name.removeprefix(PARAM), [])[1:]]
    query = urlencode(sorted(params.items()), doseq=True)
    path = quote(merged.get(PATH, ""), safe="/%:@!$&'()*+,;=~")
    url = f"{scheme}://{address}{path if path.startswith('/') or not path else '/' + path}"
    try:
        urlsplit(url).port  # noqa: B018  # reading it checks it
    except ValueError as error:
        raise BadRequest(f"{address!r} is not a valid host:port: {error}") from error
    return f"{url}?{query}" if query else url


def global_url(url: str, external_url: str, listen_port: int | None) -> str:
    """The URL as others reach it: a local host is replaced by the one of the server's external URL, the server itself by all of it."""
    outside, inside = urlsplit(external_url), urlsplit(url)
    if not outside.hostname or inside.hostname not in LOCAL_HOSTS:
        return url
    if inside.port == listen_port:
        return inside._replace(scheme=outside.scheme, netloc=outside.netloc).geturl()
    host = f"[{outside.hostname}]" if ":" in outside.hostname else outside.hostname
    return inside._replace(netloc=f"{host}:{inside.port}" if inside.port else host).geturl()
