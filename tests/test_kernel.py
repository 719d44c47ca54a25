"""Kernels: declared types are compiled, others refused, and a machine that cannot keep them compiles them every time."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from promlike.kernel import KERNEL_MODULES, compile_kernels, kernel, uncached_kernels

SOURCE = "def double(values):\n    for i in range(len(values)):\n        values[i] *= 2\n"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module with one kernel whose source is no file, so that Numba has no place for its cache."""
    made = ModuleType("without_file")
    exec(compile(SOURCE, "<nowhere>", "exec"), made.__dict__)
    made.__dict__["double"] = kernel("(f8[::1],)")(made.__dict__["double"])
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def test_a_kernel_that_cannot_be_cached_is_compiled_all_the_same(module: ModuleType) -> None:
    assert uncached_kernels([module.__name__]) == ["without_file.double"]
    told: list[tuple[str, int, int]] = []
    assert compile_kernels([module.__name__], lambda *now: told.append(now)) == 1
    assert told == [("without_file.double", 0, 1)]
    values = np.array([1.5, 2.0])
    module.__dict__["double"](values)
    assert values.tolist() == [3.0, 4.0]


def test_other_types_than_the_declared_ones_are_refused(module: ModuleType) -> None:
    compile_kernels([module.__name__])
    with pytest.raises(TypeError, match="No matching definition"):
        module.__dict__["double"](np.array([1], np.int64))


def test_processes_share_what_the_cache_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four kernels this process finds that the first is missing, the other process then compiles the third."""
    source = "from promlike.kernel import kernel\n"
    for number in range(4):
        source += f'@kernel("(f8,)")\ndef plus_{number}(value):\n    return value + {number}\n'
    (tmp_path / "kernels_in_a_file.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    told: list[str] = []
    assert compile_kernels(["kernels_in_a_file"], lambda name, done, total: told.append(f"{name[-1]} {done}/{total}"), processes=2) == 4
    assert told == ["1 1/4", "3 3/4", "1 1/4", "2 2/4", "3 3/4"]
    kernels = [getattr(sys.modules["kernels_in_a_file"], f"plus_{number}") for number in range(4)]
    assert [function(1.0) for function in kernels] == [1.0, 2.0, 3.0, 4.0]
    assert [sum(function.stats.cache_hits.values()) for function in kernels] == [0, 0, 1, 0]


def test_our_kernels_are_cached() -> None:
    assert not uncached_kernels(KERNEL_MODULES)
