"""What every test of PromQL relies on."""

import pytest

from promlike.promql.options import Features
from promlike.promql.parser import parse


@pytest.fixture(scope="session", autouse=True)
def ready_parser() -> None:
    """Build the parser before the first test: it raises the recursion limit, which must not happen inside a Hypothesis test."""
    parse("up", Features())
