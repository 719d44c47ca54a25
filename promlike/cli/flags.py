"""The command line of the server: Prometheus's flags and ours, in one table, and a parser with Go's conventions.

`--flag=value`, `--flag value`, `--flag` and `--no-flag` for booleans. Unknown flags are refused, naming the nearest known one.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum, auto
from math import isfinite

from promlike.errors import BadRequest
from promlike.model.durations import parse_duration

BYTE_UNITS = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40, "PB": 1 << 50, "EB": 1 << 60}


class FlagError(Exception):
    """The command line is wrong; the message names the flag and its value."""


class Kind(Enum):
    """How the text of a flag is read."""

    BOOL = auto()
    TEXT = auto()
    DURATION = auto()
    BYTES = auto()
    INTEGER = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag. `acted_on` false: accepted because Prometheus has it, with a warning that it changes nothing here."""

    name: str
    kind: Kind
    default: str
    help: str
    choices: tuple[str, ...] = ()
    repeatable: bool = False
    acted_on: bool = True


def _text(name: str, default: str, help_: str, *, repeatable: bool = False, choices: tuple[str, ...] = ()) -> Flag:
    return Flag(name=name, kind=Kind.TEXT, default=default, help=help_, repeatable=repeatable, choices=choices)


def _flag(kind: Kind, name: str, default: str, help_: str) -> Flag:
    return Flag(name=name, kind=kind, default=default, help=help_)


def _ignored(kind: Kind, name: str, default: str = "") -> Flag:
    return Flag(name=name, kind=kind, default=default, help="Accepted for compatibility; changes nothing.", acted_on=False)


SERVE_FLAGS: tuple[Flag, ...] = (
    _text("config.file", "prometheus.yml", "Configuration file. Without one at the default place the server scrapes only itself."),
    _text("web.listen-address", "0.0.0.0:9090", "Address to listen on; may be repeated. 0.0.0.0 means all, of IPv6 too.", repeatable=True),
    _text(
        "web.external-url",
        "",
        "URL under which the server is reachable, or only its path, which prefixes all endpoints unless --web.route-prefix is set.",
    ),
    _text("web.route-prefix", "", "Prefix of the internal routes; defaults to the path of --web.external-url."),
    _flag(Kind.BOOL, "web.enable-lifecycle", "false", "Allow reload and shutdown by HTTP request."),
    _flag(Kind.BOOL, "web.enable-admin-api", "false", "Allow the administrative endpoints under /api/v1/admin."),
    _flag(Kind.BOOL, "web.enable-sql-api", "false", "Answer statements of SQL, which can only read, at /api/v1/sql."),
    _flag(Kind.INTEGER, "web.sql.max-rows", "1000000", "How many rows SQL is answered with at most; 0 means no limit."),
    _flag(Kind.BOOL, "web.enable-remote-write-receiver", "true", "Take remote write at /api/v1/write; on unless switched off with --no-…"),
    _text(
        "web.remote-write-receiver.accepted-protobuf-messages",
        "prometheus.WriteRequest,io.prometheus.write.v2.Request",
        "Protobuf messages of remote write that are taken: those of 1.0 and 2.0; may be repeated.",
        repeatable=True,
    ),
    _text("web.page-title", "promlike", "Title of the status page."),
    _text("web.cors.origin", ".*", "Regular expression, fully anchored, of the origins that may call the API from a browser."),
    _flag(
        Kind.DURATION,
        "web.read-timeout",
        "5m",
        "How long a request may take to come, and an idle connection is kept; 0 means no limit.",
    ),
    _flag(Kind.INTEGER, "web.max-connections", "512", "How many connections may be open at once; others wait to be accepted."),
    _flag(Kind.INTEGER, "web.search.max-limit", "10000", "The largest limit that a search may ask for; 0 means no limit."),
    _flag(Kind.INTEGER, "web.max-notifications-subscribers", "16", "How many clients may listen to notifications at once."),
    _text("storage.tsdb.path", "data/", "Data folder: the write-ahead log and the embedded store."),
    _flag(Kind.DURATION, "storage.tsdb.retention.time", "15d", "How long samples are kept."),
    _flag(Kind.DURATION, "storage.retention.5m", "90d", "How long the rollup of 5 minutes is kept."),
    _flag(Kind.DURATION, "storage.retention.1h", "2y", "How long the rollup of an hour is kept, and with it what is known of series."),
    _flag(
        Kind.BYTES, "storage.tsdb.retention.size", "0B", "How large store and WAL may be; then the oldest samples go. 0B means no limit."
    ),
    _text("storage.url", "", "Where samples are kept for good: duckdb:PATH (default: inside the data folder) or postgresql://…"),
    _text("storage.schema", "promlike", "Schema of a PostgreSQL database that the tables are in."),
    _flag(Kind.DURATION, "storage.connect-timeout", "10s", "How long to wait for a connection to PostgreSQL."),
    _flag(Kind.DURATION, "storage.statement-timeout", "1m", "How long one statement may take in PostgreSQL; then it is cancelled."),
    _flag(Kind.DURATION, "storage.lock-timeout", "10s", "How long a statement waits for a lock in PostgreSQL."),
    _flag(Kind.DURATION, "storage.head-window", "3h", "How long samples stay in memory."),
    _flag(Kind.DURATION, "storage.flush-interval", "10m", "How often new samples go to the store."),
    _flag(Kind.DURATION, "storage.start-timeout", "5m", "How long the start waits for a database that is away."),
    _flag(
        Kind.BYTES, "storage.wal-max-size", "8GB", "How large the write-ahead log may become while the store is away; 0B means no limit."
    ),
    _flag(Kind.DURATION, "query.timeout", "2m", "How long a query may take."),
    _flag(Kind.INTEGER, "query.max-samples", "50000000", "How many samples one query may load."),
    _flag(Kind.INTEGER, "query.max-concurrency", "20", "How many queries run at once; others wait."),
    _flag(Kind.INTEGER, "storage.remote.read-sample-limit", "5e7", "How many samples a remote read may return at once; 0 means no limit."),
    _flag(Kind.INTEGER, "storage.remote.read-concurrent-limit", "10", "How many remote reads are answered at once; 0 means no limit."),
    _flag(Kind.INTEGER, "storage.remote.read-max-bytes-in-frame", "1048576", "How large a frame of a streamed remote read may be."),
    _flag(Kind.INTEGER, "query.max-queue-size", "1000", "How many queries wait for their turn; more are refused with 503."),
    _flag(Kind.BYTES, "query.max-memory", "", "How many bytes one query may hold; half of what all together may, unless given."),
    _flag(
        Kind.BYTES,
        "query.max-total-memory",
        "",
        "How many bytes all queries together may hold; a quarter of the memory unless given.",
    ),
    _flag(Kind.DURATION, "query.lookback-delta", "5m", "How far back an instant vector looks for a sample."),
    _flag(Kind.BYTES, "query.cache-size", "64MB", "How many bytes answers to range queries may take that are kept; 0B keeps none."),
    _text("cache.redis-url", "", "Redis that serves as a second-level cache: redis://[:password@]host:port/number; none unless given."),
    _text("enable-feature", "", "Comma separated names of features to switch on; may be repeated.", repeatable=True),
    _text("log.level", "info", "Least severity that is logged.", choices=("debug", "info", "warn", "error")),
    _text("log.format", "logfmt", "Format of log lines.", choices=("logfmt", "json")),
    _ignored(Kind.TEXT, "web.config.file"),
    _ignored(Kind.BOOL, "web.enable-otlp-receiver", "false"),
    _ignored(Kind.TEXT, "web.user-assets"),
    _ignored(Kind.TEXT, "web.local-assets"),
    _ignored(Kind.TEXT, "web.console.templates", "consoles"),
    _ignored(Kind.TEXT, "web.console.libraries", "console_libraries"),
    _ignored(Kind.DURATION, "config.auto-reload-interval", "30s"),
    _ignored(Kind.DURATION, "storage.tsdb.min-block-duration"),
    _ignored(Kind.DURATION, "storage.tsdb.max-block-duration"),
    _ignored(Kind.BYTES, "storage.tsdb.max-block-chunk-segment-size", "0B"),
    _ignored(Kind.BYTES, "storage.tsdb.wal-segment-size", "0B"),
    _ignored(Kind.BOOL, "storage.tsdb.wal-compression", "true"),
    _ignored(Kind.TEXT, "storage.tsdb.wal-compression-type", "snappy"),
    _ignored(Kind.BOOL, "storage.tsdb.no-lockfile", "false"),
    _ignored(Kind.BOOL, "storage.tsdb.allow-overlapping-blocks", "true"),
    _ignored(Kind.BOOL, "storage.tsdb.allow-overlapping-compaction", "true"),
    _ignored(Kind.INTEGER, "storage.tsdb.head-chunks-write-queue-size", "0"),
    _ignored(Kind.INTEGER, "storage.tsdb.samples-per-chunk", "120"),
    _ignored(Kind.BOOL, "storage.tsdb.delayed-compaction", "false"),
    _ignored(Kind.INTEGER, "storage.tsdb.delayed-compaction.max-percent", "10"),
    _ignored(Kind.DURATION, "storage.remote.flush-deadline", "1m"),
    _ignored(Kind.DURATION, "rules.alert.for-outage-tolerance", "1h"),
    _ignored(Kind.DURATION, "rules.alert.for-grace-period", "10m"),
    _ignored(Kind.DURATION, "rules.alert.resend-delay", "1m"),
    _ignored(Kind.INTEGER, "rules.max-concurrent-evals", "4"),
    _ignored(Kind.INTEGER, "alertmanager.notification-queue-capacity", "10000"),
    _ignored(Kind.INTEGER, "alertmanager.notification-batch-size", "256"),
    _ignored(Kind.BOOL, "alertmanager.drain-notification-queue-on-shutdown", "true"),
    _ignored(Kind.DURATION, "alertmanager.timeout"),
    _ignored(Kind.BOOL, "scrape.adjust-timestamps", "true"),
    _ignored(Kind.DURATION, "scrape.timestamp-tolerance", "2ms"),
    _ignored(Kind.DURATION, "scrape.discovery-reload-interval", "5s"),
    _ignored(Kind.TEXT, "scrape.name-escaping-scheme"),
    _ignored(Kind.BOOL, "auto-gomaxprocs", "true"),
    _ignored(Kind.BOOL, "auto-gomemlimit", "true"),
    _ignored(Kind.TEXT, "auto-gomemlimit.ratio", "0.9"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagValues:
    """The checked text of every flag, and which ones the command line gave."""

    texts: Mapping[str, str]
    lists: Mapping[str, tuple[str, ...]]
    given: frozenset[str]

    def text(self, name: str) -> str:
        return self.texts[name]

    def boolean(self, name: str) -> bool:
        return self.texts[name] == "true"

    def duration_ms(self, name: str) -> int:
        return parse_duration(self.texts[name])

    def bytes(self, name: str) -> int:
        return parse_bytes(self.texts[name])

    def integer(self, name: str) -> int:
        return parse_integer(self.texts[name])


def parse_bytes(text: str) -> int:
    """Bytes of `512MB`; powers of two, as Prometheus counts. Raise BadRequest otherwise."""
    number = text.rstrip("BKMGTPE")
    unit = BYTE_UNITS.get(text[len(number) :] or "B")
    try:
        count = float(number)
    except ValueError:
        count = -1.0
    if unit is None or count < 0 or not isfinite(count):
        raise BadRequest(f"not a valid size: {text!r}; write a number and one of {', '.join(BYTE_UNITS)}")
    return int(count * unit)


def parse_integer(text: str) -> int:
    """A whole number that is not negative, also as `5e7`. Raise BadRequest otherwise."""
    if not re.fullmatch(r"\d{1,18}(e1?\d)?", text, re.ASCII):
        raise BadRequest(f"not a whole number: {text!r}")
    digits, _, zeros = text.partition("e")
    return int(digits + "0" * int(zeros or 0))


_CHECKS: Mapping[Kind, Callable[[str], object]] = {Kind.DURATION: parse_duration, Kind.BYTES: parse_bytes, Kind.INTEGER: parse_integer}


def parse_flags(arguments: Sequence[str], flags: Sequence[Flag] = SERVE_FLAGS) -> FlagValues:
    """Read the command line against the table; raise FlagError naming the flag."""
    known = {flag.name: flag for flag in flags}
    given: dict[str, list[str]] = {}
    rest = iter(arguments)
    for argument in rest:
        name, text = _split(argument, known)
        flag = known[name]
        if text is None:
            text = "true" if flag.kind is Kind.BOOL else next(rest, None)
        if text is None:
            raise FlagError(f"flag --{name} needs a value")
        if name in given and not flag.repeatable:
            raise FlagError(f"flag --{name} cannot be repeated")
        _check(flag, text)
        given.setdefault(name, []).append(text)
    lists = {name: tuple(given.get(name, (known[name].default,))) for name in known}
    texts = {name: ",".join(parts) for name, parts in lists.items()}
    return FlagValues(texts=texts, lists=lists, given=frozenset(given))


def _split(argument: str, known: Mapping[str, Flag]) -> tuple[str, str | None]:
    """The flag an argument names, and the value it carries itself."""
    if not argument.startswith("--"):
        raise FlagError(f"unexpected argument {argument!r}: every option of the server is a --flag")
    name, equals, text = argument[2:].partition("=")
    negated = name.removeprefix("no-")
    if name not in known and name.startswith("no-") and negated in known and known[negated].kind is Kind.BOOL:
        if equals:
            raise FlagError(f"flag --{name} takes no value")
        return negated, "false"
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise FlagError(f"unknown flag --{name}; the nearest known flag is --{near}")
    return name, text if equals else None


def _check(flag: Flag, text: str) -> None:
    if flag.kind is Kind.BOOL and text not in ("true", "false"):
        raise FlagError(f"flag --{flag.name}: {text!r} is neither true nor false")
    if flag.choices and text not in flag.choices:
        raise FlagError(f"flag --{flag.name}: {text!r} is not one of {', '.join(flag.choices)}")
    check = _CHECKS.get(flag.kind)
    try:
        if check is not None:
            check(text)
    except BadRequest as error:
        raise FlagError(f"flag --{flag.name}: {error}") from error


def flags_help(flags: Sequence[Flag] = SERVE_FLAGS) -> str:
    """The text of --help: acted-on flags with their defaults, then the names that are only accepted."""
    lines = []
    for flag in flags:
        if flag.acted_on:
            value = "" if flag.kind is Kind.BOOL else f"={flag.default or '…'}"
            default = " (default: on)" if flag.kind is Kind.BOOL and flag.default == "true" else ""
            lines += [f"  --{'[no-]' if flag.kind is Kind.BOOL else ''}{flag.name}{value}", f"        {flag.help}{default}"]
    lines.append("\nAccepted for compatibility, changing nothing:")
    lines += [f"  --{flag.name}" for flag in flags if not flag.acted_on]
    return "\n".join(lines)
