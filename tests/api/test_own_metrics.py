"""`/metrics` as tools of Prometheus read it."""

import subprocess
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.servers import Server, promlike, require

TEXT = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that has something of everything to count."""
    config = 'scrape_configs: [{job_name: "odd \\\\ \\"job\\"", static_configs: [{targets: ["127.0.0.1:1"]}]}]\n'
    with promlike(tmp_path_factory.mktemp("metrics"), config=config) as one:
        request = WriteRequest()
        series = request.timeseries.add()
        series.labels.add(name=b"__name__", value=b"m")
        series.samples.add(timestamp=1, value=1)
        assert one.write(request).status == 400
        for path in ("/api/v1/query?query=1", "/api/v1/query_range?query=1&start=0&end=1&step=1", "/api/v1/query?query=(", "/nothing"):
            one.get(path)
        yield one


def test_promtool_finds_nothing_to_say_about_it(server: Server) -> None:
    checked = subprocess.run(
        [require("promtool"), "check", "metrics"], input=server.get("/metrics").body, capture_output=True, check=False, timeout=30
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5",
            OPENMETRICS,
        ),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.6", TEXT),
        ("application/openmetrics-text;version=2.0.0, */*;q=0.1", TEXT),
        ("application/openmetrics-text;q=0", TEXT),
    ],
)
def test_the_format_is_the_one_asked_for(server: Server, accept: str, content_type: str) -> None:
    answer = server.request("GET", "/metrics", headers={"Accept": accept} if accept else {})
    assert answer.headers["Content-Type"] == content_type
    assert answer.text.endswith("# EOF\n") == (content_type == OPENMETRICS)


def test_both_formats_have_the_same_series(server: Server) -> None:
    text = server.get("/metrics").text
    openmetrics = server.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text"}).text
    of_text = {(sample.name, *sorted(sample.labels.items())) for family in read_text(text) for sample in family.samples}
    of_openmetrics = {
        (sample.name, *sorted(sample.labels.items()))
        for family in read_openmetrics(openmetrics)  # type: ignore[no-untyped-call]  # the library does not annotate it
        for sample in family.samples
    }
    assert of_text == of_openmetrics
    assert len(of_text) > 200
