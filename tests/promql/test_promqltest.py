"""PromQL's behaviour, held in the plain-text language of Prometheus's engine tests."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from promlike.promql.engine import Engine
from promlike.promql.options import EngineOptions
from tests.promql.promqltest import experimental_engine, run_test

CASES = Path(__file__).parent / "cases"
STABLE_CASES = Path(__file__).parent / "stable_cases"
SHARED = Path(__file__).parents[3] / "shared" / "promql-tests"

ABOUT_HISTOGRAMS = frozenset(('stddev({label="c"})', 'stdvar({label="c"})', '{job="app-server"} == 80'))
"""Evaluations of the shared cases that expect an info about native histogram series, which were taken out of the data they load."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with ThreadPoolExecutor(2) as pool:
        engine = experimental_engine(pool)
        yield engine
        engine.close()


@pytest.fixture(scope="module")
def stable_engine() -> Iterator[Engine]:
    with ThreadPoolExecutor(2) as pool:
        engine = Engine(EngineOptions(), pool)
        yield engine
        engine.close()


def texts(folder: Path) -> list[object]:
    return [pytest.param(path.read_text(), id=path.stem) for path in sorted(folder.glob("*.test"))]


@pytest.mark.parametrize("text", texts(CASES))
async def test_our_cases(engine: Engine, text: str) -> None:
    assert await run_test(text, engine) > 0


@pytest.mark.parametrize("text", texts(STABLE_CASES))
async def test_our_cases_without_experimental_features(stable_engine: Engine, text: str) -> None:
    assert await run_test(text, stable_engine) > 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="the cases of the Prometheus project do not lie beside this one")
@pytest.mark.parametrize("text", texts(SHARED))
async def test_cases_of_prometheus(engine: Engine, text: str) -> None:
    assert await run_test(text, engine, ABOUT_HISTOGRAMS) > 0
