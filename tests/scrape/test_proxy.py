"""Which requests go through a proxy."""

import pytest

from promlike.config.http_client import ProxyConfig
from promlike.scrape.proxy import proxy_for

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("url", "no_proxy", "direct"),
    [
        ("http://a.example:80/", "", False),
        ("http://a.example/", "example", True),
        ("http://a.example/", ".example", True),
        ("http://example/", ".example", False),
        ("http://example/", "example", True),
        ("http://badexample/", "example", False),
        ("http://10.1.2.3/", "10.0.0.0/8", True),
        ("http://11.1.2.3/", "10.0.0.0/8, 11.1.2.3", True),
        ("http://a.example:81/", "a.example:80", False),
        ("http://a.example:80/", "a.example:80", True),
        ("https://a.example/", "a.example:443", True),
        ("http://[::1]:9/", "::1", True),
        ("http://[::1]:9/", "[::1]:9", True),
        ("http://a.example/", "*", True),
    ],
)
def test_no_proxy(url: str, no_proxy: str, direct: bool) -> None:
    assert proxy_for(url, ProxyConfig(proxy_url=PROXY, no_proxy=no_proxy), {}) == (None if direct else PROXY)


def test_the_environment_counts_only_when_asked_for() -> None:
    environ = {"HTTP_PROXY": PROXY, "no_proxy": "b.example"}
    asked = ProxyConfig(proxy_from_environment=True)
    assert proxy_for("http://a.example/", ProxyConfig(), environ) is None
    assert proxy_for("http://a.example/", asked, environ) == PROXY
    assert proxy_for("http://b.example/", asked, environ) is None
    assert proxy_for("https://a.example/", asked, environ) is None
    assert proxy_for("http://localhost/", asked, environ) is None
