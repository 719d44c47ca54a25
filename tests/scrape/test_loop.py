"""One target, scrape by scrape: what is stored, what is reported, what goes stale."""

import asyncio
import gzip
import json
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from promlike.config.load import parse_config
from promlike.model.blocks import STALE_BITS
from promlike.model.labels import METRIC_NAME, Labels
from promlike.scrape.client import HttpClient
from promlike.scrape.ingest import Ingest
from promlike.scrape.loop import REPORT, Schedule, TargetLoop
from promlike.scrape.sample_labels import SampleLabels
from promlike.scrape.status import Health, ScrapeCounters
from promlike.scrape.target import Target
from tests.remote_write.sink import ListSink
from tests.scrape.exporter import OPENMETRICS, Exporter, exporter

STALE = "stale"
Rows = list[tuple[str, int, float | str]]


class Scraper:
    """A loop whose scrapes the test starts, and the sink behind it."""

    def __init__(self, target: Exporter, text: str = "", sink: ListSink | None = None) -> None:
        self.sink = sink or ListSink()
        self.counters = ScrapeCounters()
        config = parse_config(f"scrape_configs: [{{job_name: j, {text}}}]", file="x.yml").scrape_configs[0]
        labels: Labels = (("job", "j"),)
        ingest = Ingest(config=config, labels=SampleLabels(config=config, target=labels), sink=self.sink, counters=self.counters)
        place = Target(discovered=(), labels=labels, url=target.url, interval_ms=10_000, timeout_ms=500)
        client = HttpClient(config.http)
        self.loop = TargetLoop(target=place, config=config, client=client, sink=self.sink, ingest=ingest, counters=self.counters)

    async def scrape(self, scrape_ms: int) -> Rows:
        """The samples one scrape stored, those about the scrape left out."""
        return [row for row in await self.scrape_all(scrape_ms) if row[0] not in REPORT]

    async def scrape_all(self, scrape_ms: int) -> Rows:
        before = len(self.sink.rows)
        await self.loop.scrape(scrape_ms)
        return shown(self.sink, before)

    async def report(self, scrape_ms: int) -> dict[str, float | str]:
        return {name: value for name, _, value in await self.scrape_all(scrape_ms) if name.startswith(("scrape_", "up"))}

    @property
    def error(self) -> str:
        return self.loop.status("j", "").last_error


def shown(sink: ListSink, start: int = 0) -> Rows:
    """(name and labels but the job, time, value) of rows, sorted."""
    return sorted(
        (
            ",".join(value if name == METRIC_NAME else f"{name}={value}" for name, value in labels if name != "job"),
            ts_ms,
            STALE if bits == STALE_BITS else float(np.array([bits], np.uint64).view(np.float64)[0]),
        )
        for labels, ts_ms, bits in sink.rows[start:]
    )


@asynccontextmanager
async def scraping(text: str = "", sink: ListSink | None = None) -> AsyncIterator[tuple[Exporter, Scraper]]:
    async with exporter() as target:
        scraper = Scraper(target, text, sink)
        try:
            yield target, scraper
        finally:
            await scraper.loop.client.close()


async def test_samples_are_stored_at_the_time_of_the_scrape_unless_they_have_their_own() -> None:
    async with scraping() as (target, scraper):
        target.body = 'a{x="1"} 5\nb 6 77\n'
        assert await scraper.scrape(1000) == [("a,x=1", 1000, 5.0), ("b", 77, 6.0)]
        target.body = "b 7 78\na 8\n"
        assert await scraper.scrape(2000) == [("a", 2000, 8.0), ("a,x=1", 2000, STALE), ("b", 78, 7.0)]
        assert scraper.loop.status("j", "").health is Health.UP


async def test_without_honor_timestamps_all_samples_have_the_time_of_the_scrape() -> None:
    async with scraping("honor_timestamps: false") as (target, scraper):
        target.body = "b 6 77\n"
        assert await scraper.scrape(1000) == [("b", 1000, 6.0)]
        target.body = ""
        assert await scraper.scrape(2000) == [("b", 2000, STALE)]


@pytest.mark.parametrize(("text", "stale"), [("", []), ("track_timestamps_staleness: true", [("b", 2000, STALE)])])
async def test_series_with_timestamps_go_stale_only_when_asked_for(text: str, stale: Rows) -> None:
    async with scraping(text) as (target, scraper):
        target.body = "b 6 77\n"
        await scraper.scrape(1000)
        target.body = "\n"
        assert await scraper.scrape(2000) == stale


async def test_a_series_goes_stale_once_and_comes_back() -> None:
    async with scraping() as (target, scraper):
        target.body = "a 1\nb 1\n"
        await scraper.scrape(1000)
        target.body = "a 2\n"
        assert await scraper.scrape(2000) == [("a", 2000, 2.0), ("b", 2000, STALE)]
        assert await scraper.scrape(3000) == [("a", 3000, 2.0)]
        target.body = "a 3\nb 3\n"
        assert await scraper.scrape(4000) == [("a", 4000, 3.0), ("b", 4000, 3.0)]


async def test_a_failed_scrape_makes_everything_stale_and_reports_it() -> None:
    async with scraping() as (target, scraper):
        target.body = "a 1\nb 1\n"
        assert (await scraper.report(1000))["up"] == 1.0
        target.status = 500
        assert await scraper.scrape(2000) == [("a", 2000, STALE), ("b", 2000, STALE)]
        assert scraper.error == "server returned HTTP status 500 Internal Server Error"
        assert scraper.loop.status("j", "").health is Health.DOWN
        report = await scraper.report(3000)
        assert (report["up"], report["scrape_samples_scraped"]) == (0.0, 0.0)
        target.status = 200
        report = await scraper.report(4000)
        assert (report["up"], report["scrape_series_added"]) == (1.0, 0.0)
        assert scraper.error == ""


async def test_the_report_counts_samples_and_new_series() -> None:
    async with scraping("metric_relabel_configs: [{source_labels: [__name__], regex: drop.*, action: drop}]") as (target, scraper):
        target.body = "a 1\ndrop 1\nb 1\n"
        report = await scraper.report(1000)
        assert 0 < float(report.pop("scrape_duration_seconds")) < 1
        assert report == {"up": 1, "scrape_samples_scraped": 3, "scrape_samples_post_metric_relabeling": 2, "scrape_series_added": 2}
        target.body = "a 1\ndrop 1\ndrop2 1\nc 1\n"
        report = await scraper.report(2000)
        del report["scrape_duration_seconds"]
        assert report == {"up": 1, "scrape_samples_scraped": 4, "scrape_samples_post_metric_relabeling": 2, "scrape_series_added": 1}


async def test_extra_metrics_are_reported_when_asked_for() -> None:
    async with scraping("extra_scrape_metrics: true, sample_limit: 7, body_size_limit: 1KB") as (target, scraper):
        target.body = "a 1\n"
        report = await scraper.report(1000)
        extra = report["scrape_timeout_seconds"], report["scrape_sample_limit"], report["scrape_body_size_bytes"]
        assert extra == (0.5, 7.0, 4.0)
        target.body = "a 1\n" * 1000
        assert (await scraper.report(2000))["scrape_body_size_bytes"] == -1.0


@pytest.mark.parametrize(
    ("text", "body", "error"),
    [
        ("", "a 1\nb\n", "line 2: a value is missing after the series: 'b'"),
        ("", 'a 1\nb{x="1",x="2"} 3\n', 'line 2: label name "x" is not unique: \'b{x="1",x="2"} 3\''),
        ("", "# TYPE a strange\na 1\n", "line 1: \"strange\" is not a metric type: '# TYPE a strange'"),
        ("sample_limit: 1", "a 1\nb 1\n", "sample_limit exceeded: 2 samples, 1 are allowed"),
        ("body_size_limit: 5B", "a 1\nb 1\n", "the body exceeds body_size_limit, 5 bytes"),
        ("label_limit: 2", 'a{x="1"} 1\n', 'line 1: label_limit exceeded: metric "a" has 3 labels, 2 are allowed: \'a{x="1"} 1\''),
    ],
)
async def test_a_scrape_fails_as_a_whole(text: str, body: str, error: str) -> None:
    async with scraping(text) as (target, scraper):
        target.body = body
        for scrape_ms in (1000, 2000):
            assert await scraper.scrape(scrape_ms) == []
            assert scraper.error == error
        assert not [labels for labels in scraper.sink.refs if dict(labels)[METRIC_NAME] in ("a", "b")], "no series of a failed scrape"
        assert scraper.counters.scrapes_failed_total == 2


async def test_a_limit_that_is_just_kept() -> None:
    async with scraping(
        "sample_limit: 2, body_size_limit: 12B, metric_relabel_configs: [{regex: c, source_labels: [__name__], action: drop}]"
    ) as (
        target,
        scraper,
    ):
        target.body = "a 1\nb 1\nc 1\n"
        assert len(await scraper.scrape(1000)) == 2


async def test_of_a_series_exposed_twice_the_first_sample_counts() -> None:
    async with scraping() as (target, scraper):
        target.body = 'a{x="1",y="2"} 1\na{y="2",x="1"} 2\na{x="1",y="2"} 3\n'
        for scrape_ms in (1000, 2000):
            assert await scraper.scrape(scrape_ms) == [("a,x=1,y=2", scrape_ms, 1.0)]
        assert scraper.counters.scrapes_sample_duplicate_timestamp_total == 4
        target.body = 'a{y="2",x="1"} 5\n'
        assert await scraper.scrape(3000) == [("a,x=1,y=2", 3000, 5.0)]


async def test_a_series_the_storage_refuses_is_left_out_and_asked_for_again() -> None:
    sink = ListSink(refuse=frozenset({"b"}))
    async with scraping(sink=sink) as (target, scraper):
        target.body = "a 1\nb 1\n"
        assert await scraper.scrape(1000) == [("a", 1000, 1.0)]
        assert await scraper.scrape(2000) == [("a", 2000, 1.0)]
        assert scraper.counters.series_rejected_total == {"too_many_series": 2}
        sink.refuse = frozenset()
        assert await scraper.scrape(3000) == [("a", 3000, 1.0), ("b", 3000, 1.0)]


async def test_when_the_storage_cannot_take_a_scrape_the_next_one_writes_the_stale_markers() -> None:
    sink = ListSink()
    async with scraping(sink=sink) as (target, scraper):
        target.body = "a 1\nb 1\nc 1\n"
        await scraper.scrape(1000)
        sink.unavailable = True
        target.body = "a 1\n"
        assert await scraper.scrape(2000) == []
        sink.unavailable = False
        target.body = "a 1\nc 1\n"
        assert await scraper.scrape(3000) == [("a", 3000, 1.0), ("b", 3000, STALE), ("c", 3000, 1.0)]
        assert scraper.counters.lost_scrapes_total == 1


async def test_metadata_is_handed_over_when_it_changes() -> None:
    async with scraping() as (target, scraper):
        target.body = "# HELP a first\\nline\n# TYPE a counter\na 1\n# TYPE b untyped\nb 1\n"
        await scraper.scrape(1000)
        await scraper.scrape(2000)
        assert [(found.metric, found.type, found.help) for found in scraper.sink.metadata] == [
            ("a", "counter", "first\nline"),
            ("b", "unknown", ""),
        ]
        target.content_type = OPENMETRICS
        target.body = "# TYPE a_seconds gauge\n# UNIT a_seconds seconds\na_seconds 1\n# EOF\n"
        await scraper.scrape(3000)
        assert scraper.sink.metadata[-1].unit == "seconds"


@pytest.mark.parametrize(
    ("content_type", "text", "error"),
    [
        ("text/plain", "", ""),
        ("", "", "the target sent no Content-Type"),
        ("text/html", "", 'the target sent the Content-Type "text/html"'),
        ("", "fallback_scrape_protocol: PrometheusText0.0.4", ""),
        ("text/html", "fallback_scrape_protocol: PrometheusText1.0.0", ""),
        (OPENMETRICS, "", "does not end with # EOF"),
        ("text/html", "fallback_scrape_protocol: OpenMetricsText1.0.0", "does not end with # EOF"),
    ],
)
async def test_the_content_type_decides_the_format(content_type: str, text: str, error: str) -> None:
    async with scraping(text) as (target, scraper):
        target.content_type = content_type or "application/octet-stream"
        if not content_type:
            target.content_type = " "
        await scraper.scrape(1000)
        assert (error in scraper.error) if error else not scraper.error


async def test_requests_say_who_asks_for_what() -> None:
    async with scraping("scrape_protocols: [PrometheusText0.0.4, OpenMetricsText1.0.0]") as (target, scraper):
        await scraper.scrape(1000)
        headers = target.headers[0]
        assert headers["Accept"] == (
            "text/plain;version=0.0.4;q=0.3,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.2,*/*;q=0.1"
        )
        assert headers["Accept-Encoding"] == "gzip"
        assert headers["User-Agent"].startswith("promlike/")
        assert headers["X-Prometheus-Scrape-Timeout-Seconds"] == "0.5"


async def test_a_slow_target_times_out() -> None:
    async with scraping() as (target, scraper):
        target.delay_s = 2.0
        await scraper.scrape(1000)
        assert scraper.error == f'Get "{target.url}": no complete answer within 0.5 s'


async def test_a_target_that_is_not_there_is_named() -> None:
    async with scraping() as (_, scraper):
        scraper.loop.target = Target(discovered=(), labels=(), url="http://127.0.0.1:1/metrics", interval_ms=1, timeout_ms=1000)
        await scraper.scrape(1000)
        assert scraper.error == 'Get "http://127.0.0.1:1/metrics": cannot connect to 127.0.0.1:1: Connection refused'


async def test_a_body_that_grows_while_unpacked_is_stopped_at_the_limit() -> None:
    async with scraping("body_size_limit: 1MB") as (target, scraper):
        target.body = b"a 1\n" * (8 << 20)
        assert len(gzip.compress(target.body)) < 1 << 20
        await scraper.scrape(1000)
        assert "exceeds body_size_limit" in scraper.error


@pytest.mark.parametrize(("text", "up"), [("", True), ("follow_redirects: false", False)])
async def test_redirects_are_followed_when_allowed(text: str, up: bool) -> None:
    async with scraping(text) as (target, scraper):
        target.redirect = "/elsewhere"
        await scraper.scrape(1000)
        assert (scraper.error == "") is up
        assert up or "HTTP status 302" in scraper.error


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("basic_auth: {username: me, password: 'é:x'}", "Basic bWU6w6k6eA=="),
        ("basic_auth: {username: me, password_file: SECRET}", "Basic bWU6ZnJvbSBmaWxl"),
        ("authorization: {credentials: abc}", "Bearer abc"),
        ("authorization: {type: Token, credentials_file: SECRET}", "Token from file"),
        ("bearer_token: abc", "Bearer abc"),
        ("bearer_token_file: SECRET", "Bearer from file"),
    ],
)
async def test_credentials_are_sent(text: str, header: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from file\n")
    async with scraping(text.replace("SECRET", str(secret))) as (target, scraper):
        await scraper.scrape(1000)
        assert target.headers[0]["Authorization"] == header


async def test_further_headers_are_sent_and_a_missing_secret_fails_the_scrape() -> None:
    async with scraping("http_headers: {X-A: {values: [b, c]}}, enable_compression: false") as (target, scraper):
        await scraper.scrape(1000)
        assert (target.headers[0]["X-A"], target.headers[0]["Accept-Encoding"]) == ("b, c", "identity")
    async with scraping("bearer_token_file: /nowhere/token") as (target, scraper):
        await scraper.scrape(1000)
        assert "No such file or directory: '/nowhere/token'" in scraper.error


async def test_requests_go_through_the_proxy() -> None:
    async with exporter() as proxy, scraping(f"proxy_url: 'http://127.0.0.1:{proxy.port}'") as (target, scraper):
        await scraper.scrape(1000)
        assert proxy.asked
        assert not target.asked


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A folder with cert.pem, of a server called `target`, and key.pem."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=target", "-addext", "subjectAltName=DNS:target"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


async def test_tls_is_checked_and_can_be_told_whom_to_trust(certificate: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    trusted = f"tls_config: {{ca_file: {certificate}/cert.pem, server_name: target}}"
    async with exporter(context) as target:
        for text, works in (("", False), ("tls_config: {insecure_skip_verify: true}", True), (trusted, True)):
            scraper = Scraper(target, text)
            await scraper.scrape(1000)
            await scraper.loop.client.close()
            assert (scraper.error == "") is works, scraper.error


async def test_failures_are_logged_to_the_file_that_was_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "failures.log"
    async with scraping(f"scrape_failure_log_file: {file}") as (target, scraper):
        target.status = 404
        await scraper.scrape(1000)
        line = json.loads(file.read_text())
        assert (line["target"], line["err"]) == (target.url, "server returned HTTP status 404 Not Found")


async def test_present_are_series_without_timestamps_and_those_about_the_scrapes() -> None:
    async with scraping() as (target, scraper):
        target.body = "a 1\nb 1 5\n"
        await scraper.scrape(1000)
        names = [dict(labels)[METRIC_NAME] for labels in scraper.sink.refs]
        assert {names[ref] for ref in scraper.loop.present().tolist()} == {"a", *REPORT}


async def test_a_scrape_may_be_cancelled_in_the_middle_and_the_next_one_works() -> None:
    async with scraping() as (target, scraper):
        target.delay_s = 0.2
        task = asyncio.create_task(scraper.loop.scrape(1000))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        target.delay_s = 0.0
        assert await scraper.scrape(2000) == [("m", 2000, 1.0)]


@pytest.mark.parametrize(
    ("interval_ms", "now_ms", "stamp"),
    [(10_000, 1002, 1000), (10_000, 998, 1000), (10_000, 1003, 1003), (200, 1001, 1001), (201, 1001, 1000)],
)
def test_scrapes_close_to_their_plan_are_stored_under_the_plan(interval_ms: int, now_ms: int, stamp: int) -> None:
    assert Schedule(interval_ms=interval_ms, planned_ms=1000).stamp(now_ms) == stamp


def test_missed_scrapes_are_left_out() -> None:
    schedule = Schedule(interval_ms=1000, planned_ms=5000)
    assert schedule.next_wait_ms(5400) == 600
    assert schedule.next_wait_ms(8400) == 600
    assert schedule.next_wait_ms(1000) == 1000, "a clock that was set back does not stop scraping"


async def test_series_are_held_until_the_target_has_not_shown_them_for_a_while() -> None:
    """Storage gives a ref to another series when nobody holds it: what a scrape, or a marker that is owed, may still use is held."""
    async with scraping() as (target, scraper):
        for scrape in range(8):
            target.body = "".join(f'm{{n="{scrape}",i="{i}"}} 1\n' for i in range(400))
            await scraper.scrape_all(scrape * 10_000)
            held = set(np.concatenate(scraper.sink.ref_use.held()).tolist())
            assert {scraper.sink.refs[labels] for labels, _, _ in scraper.sink.rows[-800:]} <= held
        assert len(scraper.sink.refs) > 3200
        assert len(held) < 2500
