"""`promlike serve`: flags to options, then the server."""

import os
import sys
from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from urllib.parse import unquote, urlsplit

from promlike.api.context import WebOptions
from promlike.app import ServerOptions, run
from promlike.cli.features import parse_features
from promlike.cli.flags import SERVE_FLAGS, FlagError, FlagValues, parse_flags
from promlike.cli.logging import configure_logging
from promlike.model.tiers import RESOLUTIONS_MS
from promlike.model.url import shown_url
from promlike.process import memory_bytes
from promlike.promql.options import EngineOptions
from promlike.remote_read.service import RemoteReadOptions
from promlike.remote_write.receiver import MESSAGES
from promlike.storage.options import Timeouts

log = getLogger(__name__)

NO_LIMIT_MS = 10 * 365 * 86_400_000
"""Longer than any server runs."""


def serve(words: Sequence[str]) -> int:
    """Exit code of the server."""
    try:
        flags = parse_flags(words)
        configure_logging(level=flags.text("log.level"), log_format=flags.text("log.format"))
        options = server_options(flags)
    except FlagError as error:
        print(f"promlike: {error}", file=sys.stderr)
        return 2
    for flag in SERVE_FLAGS:
        if flag.name in flags.given and not flag.acted_on:
            log.warning("flag accepted, but not acted on", extra={"flag": f"--{flag.name}"})
    return run(options)


def server_options(flags: FlagValues) -> ServerOptions:
    """Raise FlagError where values do not fit together."""
    data_dir = Path(flags.text("storage.tsdb.path"))
    external_url = _external_url(flags.text("web.external-url"))
    total_bytes = flags.bytes("query.max-total-memory") if "query.max-total-memory" in flags.given else memory_bytes() // 4
    return ServerOptions(
        config_file=Path(flags.text("config.file")),
        config_required="config.file" in flags.given,
        listen=flags.lists["web.listen-address"],
        data_dir=data_dir,
        storage_url=flags.text("storage.url") or f"duckdb:{data_dir / 'promlike.duckdb'}",
        result_cache_bytes=flags.bytes("query.cache-size"),
        redis_url=flags.text("cache.redis-url"),
        storage_schema=_schema(flags.text("storage.schema")),
        storage_timeouts=Timeouts(
            connect_s=flags.duration_ms("storage.connect-timeout") / 1000,
            statement_s=flags.duration_ms("storage.statement-timeout") / 1000,
            lock_s=flags.duration_ms("storage.lock-timeout") / 1000,
        ),
        head_window_ms=flags.duration_ms("storage.head-window"),
        flush_interval_ms=flags.duration_ms("storage.flush-interval"),
        retention_ms=flags.duration_ms("storage.tsdb.retention.time"),
        tier_retention_ms={ms: flags.duration_ms(f"storage.retention.{name}") for name, ms in RESOLUTIONS_MS.items()},
        retention_bytes=flags.bytes("storage.tsdb.retention.size"),
        wal_max_bytes=flags.bytes("storage.wal-max-size"),
        start_timeout_ms=flags.duration_ms("storage.start-timeout"),
        remote_write=flags.boolean("web.enable-remote-write-receiver"),
        remote_write_messages=_messages(flags),
        threads=os.cpu_count() or 1,
        query=EngineOptions(
            lookback_ms=flags.duration_ms("query.lookback-delta"),
            timeout_seconds=flags.duration_ms("query.timeout") / 1000,
            max_samples=flags.integer("query.max-samples"),
            max_bytes=flags.bytes("query.max-memory") if "query.max-memory" in flags.given else total_bytes // 2,
            max_total_bytes=total_bytes,
            max_queued=flags.integer("query.max-queue-size"),
            max_concurrency=flags.integer("query.max-concurrency"),
            features=parse_features(flags.lists["enable-feature"]),
        ),
        remote_read=RemoteReadOptions(
            sample_limit=flags.integer("storage.remote.read-sample-limit"),
            concurrent_limit=flags.integer("storage.remote.read-concurrent-limit"),
            max_bytes_in_frame=flags.integer("storage.remote.read-max-bytes-in-frame"),
            max_samples=flags.integer("query.max-samples"),
        ),
        web=WebOptions(
            flags={name: shown_url(text) for name, text in flags.texts.items()},
            route_prefix=_prefix(flags.text("web.route-prefix") or urlsplit(external_url).path),
            external_url=external_url,
            page_title=flags.text("web.page-title"),
            cors_origin=flags.text("web.cors.origin"),
            read_timeout_seconds=(flags.duration_ms("web.read-timeout") or NO_LIMIT_MS) / 1000,
            max_connections=_connections(flags),
            enable_lifecycle=flags.boolean("web.enable-lifecycle"),
            enable_admin_api=flags.boolean("web.enable-admin-api"),
            enable_sql_api=flags.boolean("web.enable-sql-api"),
            sql_max_rows=flags.integer("web.sql.max-rows"),
            max_notifications_subscribers=flags.integer("web.max-notifications-subscribers"),
            search_max_limit=flags.integer("web.search.max-limit"),
        ),
    )


def _external_url(text: str) -> str:
    """A whole URL, or only the path, which is all that many put behind a reverse proxy say."""
    if text and not text.startswith("/") and urlsplit(text).scheme not in ("http", "https"):
        raise FlagError(f"flag --web.external-url: {text!r} is neither an http or https URL nor a path that begins with /")
    return text


def _schema(name: str) -> str:
    """A name that PostgreSQL takes as it is: it cuts longer ones, keeps `pg_` for itself, and finds somebody else's schema for `$user`."""
    if not name or "\0" in name or len(name.encode()) > 63 or name.startswith("pg_") or name == "$user":
        raise FlagError(f"flag --storage.schema: {name!r} is not 1 to 63 bytes, begins with pg_, or is $user")
    return name


def _connections(flags: FlagValues) -> int:
    most = flags.integer("web.max-connections")
    if most < 1:
        raise FlagError(f"flag --web.max-connections: {most} is less than 1")
    return most


def _messages(flags: FlagValues) -> tuple[str, ...]:
    name = "web.remote-write-receiver.accepted-protobuf-messages"
    messages = tuple(flags.text(name).split(","))
    for message in messages:
        if message not in MESSAGES:
            raise FlagError(f"flag --{name}: {message!r} is not one of {', '.join(MESSAGES)}")
    return messages


def _prefix(path: str) -> str:
    """`/prometheus`, or "" for the root, as it reads once URLs are decoded. Raise FlagError for one that would be a pattern."""
    bare = unquote(path).strip("/")
    if set(bare) & set("{}?#"):
        raise FlagError(f"the route prefix {bare!r} has one of the characters {{ }} ? #")
    return f"/{bare}" if bare else ""
