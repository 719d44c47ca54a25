"""How the server is reached from outside, as the command line says it."""

import pytest

from promlike.cli.flags import FlagError, parse_flags
from promlike.cli.serve import server_options


@pytest.mark.parametrize(
    ("arguments", "prefix"),
    [
        ([], ""),
        (["--web.external-url=http://example.org"], ""),
        (["--web.external-url=http://example.org/"], ""),
        (["--web.external-url=https://example.org:8443/a/b/"], "/a/b"),
        (["--web.external-url=/prometheus"], "/prometheus"),
        (["--web.external-url=/prometheus/"], "/prometheus"),
        (["--web.external-url=/"], ""),
        (["--web.external-url=/prometheus", "--web.route-prefix=/"], ""),
        (["--web.external-url=/prometheus", "--web.route-prefix=/x"], "/x"),
    ],
)
def test_paths_begin_as_the_external_url_says_unless_told_otherwise(arguments: list[str], prefix: str) -> None:
    assert server_options(parse_flags(arguments)).web.route_prefix == prefix


@pytest.mark.parametrize("text", ["prometheus", "example.org/prometheus", "example.org:9090", "ftp://example.org/"])
def test_what_is_neither_a_url_nor_a_path_is_refused(text: str) -> None:
    with pytest.raises(FlagError, match="neither an http or https URL nor a path that begins with /"):
        server_options(parse_flags([f"--web.external-url={text}"]))
