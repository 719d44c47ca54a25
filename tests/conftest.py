"""What every test relies on: compiled kernels, no task left behind."""

import asyncio
import inspect
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from promlike.kernel import compile_kernels


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels() -> int:
    """Compile every kernel once, so that no test runs into another signature than the server would."""
    return compile_kernels()


@pytest_asyncio.fixture
async def no_leaked_tasks() -> AsyncIterator[None]:
    """Fail a test that leaves tasks behind, after all its other fixtures are torn down."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"tasks left behind: {left}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # What starts many servers takes longest, so it comes first: then no process is left with it when the others have ended.
    items.sort(key=lambda item: "tests/e2e/" not in item.nodeid)
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.fixturenames.insert(0, "no_leaked_tasks")
