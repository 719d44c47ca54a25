"""What a configuration says of retention, beside what the flags say."""

import pytest

from promlike.config.load import parse_config
from promlike.errors import ConfigError
from promlike.model.matchers import Matcher, MatchOp
from promlike.model.sizes import format_size
from promlike.retention import keep_options
from promlike.storage.keep import KeepOptions, KeepRule

DAY_MS = 86_400_000

RULES = """
storage:
  retention:
    - {match: '{job="debug"}', keep: 3d}
    - {match: up, keep: 0s}
"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("global: {}", KeepOptions(default_ms=DAY_MS, max_bytes=7)),
        ("storage: {tsdb: {retention: {time: 30d}}}", KeepOptions(default_ms=30 * DAY_MS, max_bytes=7)),
        ("storage: {tsdb: {retention: {size: 1KB}}}", KeepOptions(default_ms=DAY_MS, max_bytes=1024)),
        (
            RULES,
            KeepOptions(
                default_ms=DAY_MS,
                max_bytes=7,
                rules=(
                    KeepRule(matchers=(Matcher("job", MatchOp.EQUAL, "debug"),), keep_ms=3 * DAY_MS),
                    KeepRule(matchers=(Matcher("__name__", MatchOp.EQUAL, "up"),), keep_ms=0),
                ),
            ),
        ),
    ],
)
def test_the_configuration_goes_before_the_flags(text: str, wanted: KeepOptions) -> None:
    assert keep_options(parse_config(text, file="x.yml"), default_ms=DAY_MS, max_bytes=7) == wanted


def test_every_selector_that_cannot_be_read_is_named_with_its_line() -> None:
    text = "storage:\n  retention:\n    - {match: 'up{', keep: 1d}\n    - {match: up, keep: 1d}\n    - {match: 'rate(up[5m])', keep: 1d}\n"
    with pytest.raises(ConfigError) as caught:
        keep_options(parse_config(text, file="x.yml"))
    assert caught.value.problems == [
        "x.yml:3: storage.retention[0].match: 1:4: parse error: unexpected end of input inside braces",
        'x.yml:5: storage.retention[2].match: 1:5: parse error: unexpected "("',
    ]


@pytest.mark.parametrize(("count", "text"), [(0, "0B"), (1023, "1023B"), (1536 << 20, "1GiB512MiB"), (3 << 40, "3TiB")])
def test_sizes_are_written_as_prometheus_does(count: int, text: str) -> None:
    assert format_size(count) == text
