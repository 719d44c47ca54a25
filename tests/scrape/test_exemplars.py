"""Exemplars of OpenMetrics answers: read, given their times, and stored once for as long as the target shows them."""

import pytest

from promlike.scrape.exemplar_text import parse_exemplar
from tests.remote_write.sink import ListSink
from tests.scrape.exporter import OPENMETRICS, TEXT
from tests.scrape.test_loop import scraping

GOOD = [
    (b"# {} 1", ([], 1.0, None)),
    (b'# {trace_id="abc"} 0.5 1700000000.123', ([("trace_id", "abc")], 0.5, 1_700_000_000_123)),
    (b'# {a="1",b="x y} # {"} NaN', ([("a", "1"), ("b", "x y} # {")], float("nan"), None)),
    (rb'# {a="\"\\\n"} -1e3 -5', ([("a", '"\\\n')], -1000.0, -5000)),
    ('# {"ünit"="✓"} +Inf'.encode(), ([("ünit", "✓")], float("inf"), None)),
]


@pytest.mark.parametrize(("text", "expected"), GOOD, ids=[repr(case[0]) for case in GOOD])
def test_exemplar(text: bytes, expected: tuple[list[tuple[str, str]], float, int | None]) -> None:
    assert repr(parse_exemplar(text)) == repr(expected)


BAD = [
    (b'# {a="1"}', "an exemplar must be"),
    (b'# {a="1"} ', "an exemplar must be"),
    (b'# {a="1"}  2', "an exemplar must be"),
    (b'# {a="1"} 2 3 4', "an exemplar must be"),
    (b'# {a="1" 2', "an exemplar must be"),
    (b"# {a=1} 2", 'label "a" has no value'),
    (b'# {a="1", b="2"} 2', "blanks inside the labels"),
    (b'# {a="1"} two', "'two' is not a number"),
    (b'# {a="1"} 2 later', "'later' is not a number"),
    (b'# {a="\xff"} 2', "not valid UTF-8"),
]


@pytest.mark.parametrize(("text", "problem"), BAD, ids=[repr(case[0]) for case in BAD])
def test_malformed_exemplar(text: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_exemplar(text)


def shown(sink: ListSink) -> list[tuple[str, int, float, str]]:
    return [(dict(labels)["__name__"], time_ms, value, text) for labels, time_ms, value, text in sink.exemplars]


PAGE = """# TYPE a counter
a_total 1 # {trace_id="x"} 0.5 1.5
a_created 2
# TYPE b histogram
b_bucket{le="1"} 1 # {} 0.25
b_bucket{le="+Inf"} 2 7.5 # {} 0.25
# EOF
"""


async def test_an_exemplar_is_stored_once_while_the_target_shows_it() -> None:
    async with scraping() as (target, scraper):
        target.body, target.content_type = PAGE, OPENMETRICS
        rows = [("a_total", 1500, 0.5, '{"trace_id":"x"}'), ("b_bucket", 1000, 0.25, "{}"), ("b_bucket", 7500, 0.25, "{}")]
        for time_ms in (1000, 2000, 3000):
            await scraper.loop.scrape(time_ms)
            assert shown(scraper.sink) == rows
        target.body = PAGE.replace("0.5 1.5", "0.75 3.5")
        await scraper.loop.scrape(4000)
        assert shown(scraper.sink) == [*rows, ("a_total", 3500, 0.75, '{"trace_id":"x"}')]
        assert (scraper.counters.exemplars_total, scraper.counters.exemplars_rejected_total) == (4, 0)


async def test_exemplars_without_a_time_have_that_of_the_scrape_when_times_are_not_honored() -> None:
    async with scraping("honor_timestamps: false") as (target, scraper):
        target.body, target.content_type = PAGE, OPENMETRICS
        await scraper.loop.scrape(1000)
        assert [row[1] for row in shown(scraper.sink)] == [1500, 1000, 1000]


async def test_exemplars_of_dropped_series_are_dropped() -> None:
    rules = "metric_relabel_configs: [{source_labels: [__name__], regex: b_.*, action: drop}]"
    async with scraping(rules) as (target, scraper):
        target.body, target.content_type = PAGE, OPENMETRICS
        for time_ms in (1000, 2000):
            await scraper.loop.scrape(time_ms)
        assert [row[0] for row in shown(scraper.sink)] == ["a_total"]


async def test_exemplars_of_refused_series_come_when_the_series_is_taken() -> None:
    sink = ListSink(refuse=frozenset({"a_total"}))
    async with scraping(sink=sink) as (target, scraper):
        target.body, target.content_type = PAGE, OPENMETRICS
        await scraper.loop.scrape(1000)
        assert [row[0] for row in shown(sink)] == ["b_bucket"] * 2
        sink.refuse = frozenset()
        await scraper.loop.scrape(2000)
        assert [row[0] for row in shown(sink)] == ["b_bucket"] * 2 + ["a_total"]


async def test_long_labels_are_refused_and_counted_while_the_samples_are_kept() -> None:
    async with scraping() as (target, scraper):
        target.body, target.content_type = PAGE.replace('"x"', f'"{"x" * 200}"'), OPENMETRICS
        rows = await scraper.scrape(1000)
        assert [row[0] for row in rows] == ["a_created", "a_total", "b_bucket,le=+Inf", "b_bucket,le=1"]
        assert [row[0] for row in shown(scraper.sink)] == ["b_bucket"] * 2
        assert scraper.counters.exemplars_rejected_total == 1


async def test_a_malformed_exemplar_fails_the_scrape() -> None:
    async with scraping() as (target, scraper):
        target.body, target.content_type = PAGE.replace("0.5 1.5", "half"), OPENMETRICS
        await scraper.loop.scrape(1000)
        assert scraper.error.startswith("line 2: 'half' is not a number")
        assert scraper.sink.exemplars == []


async def test_what_could_not_be_stored_is_stored_when_it_is_still_shown() -> None:
    sink = ListSink(unavailable=True)
    async with scraping(sink=sink) as (target, scraper):
        target.body, target.content_type = PAGE, OPENMETRICS
        await scraper.loop.scrape(1000)
        sink.unavailable = False
        await scraper.loop.scrape(2000)
        assert [row[1] for row in shown(sink)] == [1500, 2000, 7500]


async def test_the_prometheus_text_format_has_no_exemplars() -> None:
    async with scraping() as (target, scraper):
        target.body, target.content_type = PAGE, TEXT
        await scraper.loop.scrape(1000)
        assert "unexpected text after the value" in scraper.error
        assert scraper.sink.exemplars == []
