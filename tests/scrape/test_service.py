"""Scraping as a whole: jobs that come, stay, change and go."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from promlike.config.load import parse_config
from promlike.config.root import Config
from promlike.scrape.loop import REPORT
from promlike.scrape.pool import ScrapePool
from promlike.scrape.service import ScrapeService
from promlike.scrape.status import Health
from tests.remote_write.sink import ListSink
from tests.scrape.exporter import Exporter, exporter
from tests.scrape.test_loop import STALE, shown

INTERVAL = "global: {scrape_interval: 100ms}\n"


def config(*jobs: str) -> Config:
    return parse_config(INTERVAL + "scrape_configs:\n" + "".join(f"- {{{job}}}\n" for job in jobs), file="x.yml")


def job(name: str, target: Exporter, more: str = "") -> str:
    return f"job_name: {name}, static_configs: [{{targets: ['{target.address}']}}]{', ' + more if more else ''}"


@asynccontextmanager
async def serving(start: Config, sink: ListSink) -> AsyncIterator[ScrapeService]:
    service = ScrapeService(start, sink, external_url="http://prom.example:9090")
    task = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        await service.close()
        await service.close()
        await task


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # the condition is what a sink holds
            await asyncio.sleep(0.01)


def stale_of(sink: ListSink, start: int = 0) -> set[str]:
    return {name for name, _, value in shown(sink, start) if value == STALE}


def values_of(sink: ListSink, metric: str, start: int = 0) -> list[float | str]:
    return [value for name, _, value in shown(sink, start) if name.split(",")[0] == metric]


async def test_targets_are_scraped_at_their_interval() -> None:
    sink = ListSink()
    async with exporter() as target, serving(config(job("a", target)), sink) as service:
        await until(lambda: len(values_of(sink, "m")) >= 5)
        times = [time for name, time, _ in shown(sink) if name.startswith("up")]
        gaps = sorted(later - earlier for earlier, later in pairwise(times))
        assert 90 <= gaps[len(gaps) // 2] <= 110
        found = service.active_targets()
        assert len(found) == 1
        assert (found[0].scrape_pool, found[0].health, found[0].last_error) == ("a", Health.UP, "")
        assert found[0].global_url == f"http://prom.example:{target.port}/metrics"
        assert dict(found[0].labels) == {"instance": target.address, "job": "a"}
        assert found[0].last_scrape_ms == times[-1]
        assert found[0].last_scrape_duration_s > 0
        assert service.scrape_pools() == ["a"]


async def test_stopping_the_server_marks_nothing() -> None:
    sink = ListSink()
    async with exporter() as target, serving(config(job("a", target)), sink):
        await until(lambda: "m" in str(shown(sink)))
    assert not stale_of(sink)


async def test_a_job_that_goes_is_marked_and_one_that_stays_goes_on() -> None:
    sink = ListSink()
    async with exporter() as gone, exporter() as stays:
        gone.body, stays.body = "gone 1\n", "stays 1\n"
        async with serving(config(job("a", gone), job("b", stays)), sink) as service:
            await until(lambda: bool(values_of(sink, "gone") and values_of(sink, "stays")))
            loops = [id(pool.pool) for name, pool in service._pools.items() if name == "b"]
            start = len(sink.rows)
            await service.reload(config(job("b", stays)))
            assert {name.split(",")[0] for name in stale_of(sink, start)} == {"gone", *REPORT}
            assert loops == [id(pool.pool) for pool in service._pools.values()]
            start = len(sink.rows)
            await until(lambda: len(values_of(sink, "stays", start)) >= 2)
            assert not values_of(sink, "gone", start)
            assert [target.scrape_pool for target in service.active_targets()] == ["b"]


async def test_a_job_that_changes_marks_only_what_does_not_come_back() -> None:
    sink = ListSink()
    async with exporter() as target:
        target.body = "kept 1\ndropped 1\n"
        async with serving(config(job("a", target)), sink) as service:
            await until(lambda: bool(values_of(sink, "kept")))
            start = len(sink.rows)
            drop = "metric_relabel_configs: [{source_labels: [__name__], regex: dropped, action: drop}]"
            await service.reload(config(job("a", target, drop)))
            await until(lambda: len(values_of(sink, "kept", start)) >= 2)
            assert {name.split(",")[0] for name in stale_of(sink, start)} == {"dropped"}
            assert STALE not in values_of(sink, "up", start)


async def test_a_changed_job_marks_the_targets_it_does_not_have_any_more() -> None:
    sink = ListSink()
    async with exporter() as one, exporter() as other:
        one.body, other.body = "one 1\n", "other 1\n"
        async with serving(config(job("a", one)), sink) as service:
            await until(lambda: bool(values_of(sink, "one")))
            start = len(sink.rows)
            await service.reload(config(job("a", other)))
            await until(lambda: bool(values_of(sink, "other", start)))
            assert {name.split(",")[0] for name in stale_of(sink, start)} == {"one", *REPORT}


async def test_dropped_targets_are_shown_and_counted() -> None:
    sink = ListSink()
    text = "job_name: a, keep_dropped_targets: 1, static_configs: [{targets: [x, y]}], relabel_configs: [{regex: 'x|y', "
    text += "source_labels: [__address__], action: drop}]"
    async with serving(config(text), sink) as service:
        await until(lambda: service.dropped_counts() == {"a": 2})
        assert [dict(target.discovered_labels)["__address__"] for target in service.dropped_targets()] == ["x"]


async def test_over_the_target_limit_every_scrape_fails() -> None:
    sink = ListSink()
    async with exporter() as target:
        text = job("a", target, "target_limit: 1").replace("]}]", ", 'localhost:1']}]")
        async with serving(config(text), sink) as service:
            await until(lambda: len(values_of(sink, "up")) >= 2)
            assert set(values_of(sink, "up")) == {0.0}
            assert {found.last_error for found in service.active_targets()} == {"target_limit exceeded: 2 targets, 1 are allowed"}
            assert not target.asked


async def test_targets_follow_a_file(tmp_path: Path) -> None:
    sink, file = ListSink(), tmp_path / "targets.json"
    async with exporter() as one, exporter() as other:
        one.body, other.body = "one 1\n", "other 1\n"

        def write(*targets: Exporter) -> None:
            file.write_bytes(orjson.dumps([{"targets": [target.address for target in targets], "labels": {"room": "attic"}}]))

        write(one)
        async with serving(config(f"job_name: a, file_sd_configs: [{{files: ['{tmp_path}/*.json']}}]"), sink) as service:
            await until(lambda: bool(values_of(sink, "one")))
            labels = service.active_targets()[0]
            assert dict(labels.labels)["room"] == "attic"
            assert dict(labels.discovered_labels)["__meta_filepath"] == str(file)
            start = len(sink.rows)
            write(other)
            await until(lambda: bool(values_of(sink, "other", start)))
            assert {name.split(",")[0] for name in stale_of(sink, start)} == {"one", *REPORT}
            file.write_text("[{targets: broken")
            await asyncio.sleep(1.2)
            assert len(service.active_targets()) == 1, "a broken file keeps its targets"
            file.unlink()
            await until(lambda: not service.active_targets())


async def test_targets_follow_an_endpoint() -> None:
    sink = ListSink()
    async with exporter() as target, exporter() as endpoint:
        endpoint.content_type = "application/json"
        endpoint.body = orjson.dumps([{"targets": [target.address], "labels": {"__meta_x": "y"}}])
        text = f"job_name: a, http_sd_configs: [{{url: '{endpoint.url}', refresh_interval: 100ms}}]"
        async with serving(config(text), sink) as service:
            await until(lambda: bool(values_of(sink, "m")))
            assert dict(service.active_targets()[0].discovered_labels)["__meta_url"] == endpoint.url
            assert endpoint.headers[0]["X-Prometheus-Refresh-Interval-Seconds"] == "0.1"
            endpoint.status = 500
            await asyncio.sleep(0.3)
            assert len(service.active_targets()) == 1, "an endpoint that fails keeps its targets"
            endpoint.status, endpoint.body = 200, b"[]"
            await until(lambda: not service.active_targets())


async def test_a_storage_that_cannot_write_does_not_end_the_loop() -> None:
    sink = ListSink(unavailable=True)
    async with exporter() as target, serving(config(job("a", target)), sink) as service:
        await until(lambda: service.counters.lost_scrapes_total >= 2)
        sink.unavailable = False
        await until(lambda: len(values_of(sink, "m")) >= 2)


async def test_a_pool_that_fails_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sink, failures = ListSink(), [True]
    original = ScrapePool._sync

    async def sync(self: ScrapePool, tasks: asyncio.TaskGroup) -> None:
        await original(self, tasks)
        if failures:
            failures.pop()
            raise RuntimeError("a bug")

    monkeypatch.setattr(ScrapePool, "_sync", sync)
    monkeypatch.setattr("promlike.scrape.service.RESTART_SECONDS", 0.05)
    async with exporter() as target, serving(config(job("a", target)), sink) as service:
        await until(lambda: len(values_of(sink, "m")) >= 2)
        assert service.counters.scrape_pools_failed_total == 1


async def test_cancelling_run_ends_everything() -> None:
    async with exporter() as target:
        task = asyncio.create_task(ScrapeService(config(job("a", target)), ListSink()).run())
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_service_that_never_ran_can_be_reloaded_and_closed() -> None:
    service = ScrapeService(config(), ListSink())
    await service.reload(config("job_name: a"))
    await service.close()
    assert service.scrape_pools() == []


async def test_metrics_have_prometheus_names() -> None:
    sink = ListSink()
    async with exporter() as target, serving(config(job("a", target)), sink) as service:
        await until(lambda: len(values_of(sink, "m")) >= 2)
        samples = {(sample.name, *sample.labels.values()): sample.value for family in service.metrics() for sample in family.samples}
        assert samples["prometheus_target_scrape_pool_targets", "a"] == 1
        assert samples["prometheus_target_scrape_pools_total",] == 1
        assert samples["prometheus_target_samples_total",] >= 12
        assert ("prometheus_target_scrapes_exceeded_sample_limit_total",) in samples
        assert samples["prometheus_sd_discovered_targets", "scrape", "a"] == 1
        assert samples["prometheus_target_interval_length_seconds_count", "100ms"] >= 1
        assert samples["prometheus_target_sync_length_seconds_count", "a"] == 1
