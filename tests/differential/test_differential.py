"""The same data in Prometheus and promlike, the same queries to both, the same answers."""

import os
import time
from collections.abc import Iterator

import pytest

from tests.differential import compare, data, known, pair
from tests.differential.pair import Pair
from tests.differential.queries import queries
from tests.differential.random_queries import QueryGenerator
from tests.servers import prometheus, promlike

RANDOM_QUERIES = int(os.environ.get("PROMLIKE_RANDOM_QUERIES", "300"))
"""`PROMLIKE_RANDOM_QUERIES=5000 pytest tests/differential` is the longer run."""

SEED = int(os.environ.get("PROMLIKE_RANDOM_SEED", "1"))
MOST_REPORTED = 40


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    end_ms = int(time.time()) // 60 * 60_000
    requests = pair.write_requests(data.build(end_ms))
    with prometheus(tmp_path_factory.mktemp("theirs")) as theirs, promlike(tmp_path_factory.mktemp("ours")) as ours:
        pair.send(ours, requests)
        pair.send(theirs, requests)
        yield Pair(ours=ours, theirs=theirs, end_ms=end_ms)


def check(both: Pair, texts: list[str]) -> None:
    failed = [(text, found) for text in texts if known.reason(text) is None and (found := both.differences(text))]
    report = "\n".join(f"{text}\n    " + "\n    ".join(found[:3]) for text, found in failed[:MOST_REPORTED])
    assert not failed, f"{len(failed)} of {len(texts)} queries differ:\n{report}"


def test_every_function_operator_and_modifier_answers_as_prometheus(both: Pair) -> None:
    texts = queries()
    assert len(texts) >= 600
    check(both, texts)


def test_random_queries_answer_as_prometheus(both: Pair) -> None:
    generator = QueryGenerator(SEED)
    check(both, [generator.query() for _ in range(RANDOM_QUERIES)])


def test_the_comparison_notices_a_changed_value(both: Pair) -> None:
    answer = pair.ask(both.theirs, "query", query="memory_bytes")
    other = pair.ask(both.theirs, "query", query="memory_bytes + 1")
    assert compare.differences(other, answer)
    assert not compare.differences(answer, answer)
