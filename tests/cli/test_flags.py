"""The command line, by Prometheus's conventions."""

import pytest

from promlike.cli.flags import SERVE_FLAGS, FlagError, flags_help, parse_bytes, parse_flags
from promlike.errors import BadRequest


def test_forms_of_a_flag() -> None:
    flags = parse_flags(
        ["--query.timeout=30s", "--query.max-samples", "7", "--web.enable-lifecycle", "--no-web.enable-remote-write-receiver"]
    )
    assert flags.duration_ms("query.timeout") == 30_000
    assert flags.integer("query.max-samples") == 7
    assert flags.boolean("web.enable-lifecycle")
    assert not flags.boolean("web.enable-remote-write-receiver")
    assert not flags.boolean("web.enable-admin-api")
    assert "query.timeout" in flags.given
    assert "log.level" not in flags.given


def test_booleans_take_a_value_after_an_equals_sign_only() -> None:
    assert not parse_flags(["--web.enable-remote-write-receiver=false"]).boolean("web.enable-remote-write-receiver")
    with pytest.raises(FlagError, match="unexpected argument 'false'"):
        parse_flags(["--web.enable-lifecycle", "false"])


def test_a_flag_whose_own_name_starts_with_no_is_not_a_negation() -> None:
    assert parse_flags(["--storage.tsdb.no-lockfile"]).boolean("storage.tsdb.no-lockfile")


def test_repeatable_flags_collect_their_values() -> None:
    flags = parse_flags(["--web.listen-address=:1", "--web.listen-address=:2", "--enable-feature=a,b", "--enable-feature=c"])
    assert flags.lists["web.listen-address"] == (":1", ":2")
    assert flags.lists["enable-feature"] == ("a,b", "c")
    assert flags.text("enable-feature") == "a,b,c"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--storage.tsdb.retention.tyme=3d"],
            "unknown flag --storage.tsdb.retention.tyme; the nearest known flag is --storage.tsdb.retention.time",
        ),
        (["--web.listen-adress=:1"], "the nearest known flag is --web.listen-address"),
        (["--query.timeout"], "flag --query.timeout needs a value"),
        (["--query.timeout=1s", "--query.timeout=2s"], "flag --query.timeout cannot be repeated"),
        (["--query.timeout=soon"], "flag --query.timeout: not a valid duration string: 'soon'"),
        (["--query.max-samples=-1"], "flag --query.max-samples: not a whole number: '-1'"),
        (["--storage.tsdb.retention.size=5XB"], "flag --storage.tsdb.retention.size: not a valid size: '5XB'"),
        (["--web.enable-lifecycle=yes"], "flag --web.enable-lifecycle: 'yes' is neither true nor false"),
        (["--no-web.enable-lifecycle=true"], "flag --no-web.enable-lifecycle takes no value"),
        (["--no-query.timeout"], "unknown flag --no-query.timeout"),
        (["--log.level=loud"], "flag --log.level: 'loud' is not one of debug, info, warn, error"),
        (["prometheus.yml"], "unexpected argument 'prometheus.yml'"),
    ],
)
def test_wrong_flags_are_refused_by_name(arguments: list[str], message: str) -> None:
    with pytest.raises(FlagError) as caught:
        parse_flags(arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(("text", "size"), [("0B", 0), ("512MB", 512 << 20), ("1KB", 1024), ("1.5GB", 3 << 29), ("7", 7)])
def test_sizes_are_powers_of_two(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MB", "1mb", "-1B", "nanB", "infMB", "1 GB2"])
def test_bad_sizes_are_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_bytes(text)


def test_defaults_are_valid_and_names_unique() -> None:
    flags = parse_flags([])
    assert set(flags.texts) == {flag.name for flag in SERVE_FLAGS}
    assert len(flags.texts) == len(SERVE_FLAGS)
    for flag in SERVE_FLAGS:
        if flag.default and flag.kind.name != "BOOL":
            parse_flags([f"--{flag.name}={flag.default}"])


def test_help_names_every_flag() -> None:
    text = flags_help()
    assert all(flag.name in text for flag in SERVE_FLAGS)
