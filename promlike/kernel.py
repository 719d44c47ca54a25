"""Compiled kernels: the one place that knows Numba.

A kernel is a plain function on arrays, compiled to machine code that runs without the GIL. Its signatures are stated where it is
defined, so that `compile_kernels` can load every kernel from Numba's on-disk cache (or compile it, once a machine) before the server
takes its first request. Nothing is compiled while a module is imported.

Rules for kernels: arrays are C-contiguous and writable (Numba compiles a read-only array as another type); a kernel calls only kernels of
its own file, because the on-disk cache notices changes of that file alone.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

KERNEL_MODULES: tuple[str, ...] = (
    "promlike.model.frame",
    "promlike.api.encode",
    "promlike.remote_read.kernels",
    "promlike.remote_write.kernels",
    "promlike.scrape.admission",
    "promlike.scrape.kernels",
    "promlike.search.kernels",
    "promlike.storage.arrange",
    "promlike.storage.deletion_kernels",
    "promlike.storage.head_kernels",
    "promlike.storage.head_read_kernels",
    "promlike.storage.index_kernels",
    "promlike.storage.label_columns",
    "promlike.storage.merge",
    "promlike.storage.roll_up",
    "promlike.storage.tier_codec",
    "promlike.storage.tier_packing",
    "promlike.promql.cached.points",
    "promlike.storage.timescale.packed_copy",
    "promlike.storage.timescale.series_rows",
    "promlike.storage.timescale.values",
    "promlike.promql.kernels.aggregate",
    "promlike.promql.kernels.counter",
    "promlike.promql.kernels.dates",
    "promlike.promql.kernels.extended",
    "promlike.promql.kernels.histogram",
    "promlike.promql.kernels.match",
    "promlike.promql.kernels.quantile",
    "promlike.promql.kernels.regression",
    "promlike.promql.kernels.rollup",
    "promlike.promql.kernels.select",
    "promlike.promql.kernels.tiers",
)
"""Every module that defines kernels; a test holds that none is missing."""
MAX_PROCESSES = 4
"""Compile at once; each holds 200 MiB."""


def kernel(*signatures: str) -> Callable[[F], F]:
    """Compile the function for exactly these argument types, e.g. `"(i4[::1], f8[:,::1], i8)"`, when `compile_kernels` runs.

    Division follows NumPy (x / 0.0 is an infinity, never an exception). Called before `compile_kernels`, a kernel compiles itself.
    """

    def decorate(function: F) -> F:
        compiled: Any = numba.njit(nogil=True, error_model="numpy")(function)
        # Numba raises RuntimeError where it finds no folder to write to: no reason not to run, see `uncached_kernels`.
        with suppress(RuntimeError):
            compiled.enable_caching()
        compiled.kernel_signatures = signatures
        return cast(F, compiled)  # the dispatcher is called exactly as the function it wraps

    return decorate


def inlined(function: F) -> F:
    """A function that kernels of the same file call; compiled into them, never called from Python."""
    compiled: Any = numba.njit(nogil=True, error_model="numpy")(function)
    return cast(F, compiled)


def compile_kernels(
    modules: Iterable[str] = KERNEL_MODULES,
    progress: Callable[[str, int, int], None] | None = None,
    *,
    processes: int = min(os.cpu_count() or 1, MAX_PROCESSES),
) -> int:
    """Load or compile every declared signature of every kernel, then refuse other types; return how many kernels there are.

    From the first on that the on-disk cache lacks, so many processes share the work, because a compiler keeps the GIL to itself, and
    `progress(name, done, total)` is called before each of them.
    """
    modules = tuple(modules)
    found = _kernels(modules)
    lacking = False
    for done, (name, dispatcher) in enumerate(found):
        if not dispatcher._can_compile:
            continue
        cached = dispatcher.stats.cache_path is not None
        if progress is not None and (lacking or not cached):
            progress(name, done, len(found))
        _compile(dispatcher)
        if not lacking and cached and any(dispatcher.stats.cache_misses.values()):
            lacking = True
            if processes > 1:
                _share(modules, done + 1, processes, progress)
        dispatcher.disable_compile()
    return len(found)


def fill_cache(modules: Sequence[str], first: int, step: int, progress: Callable[[str, int, int], None] | None = None) -> None:
    """Load or compile every `step`th kernel from the `first` on, which leaves them in the on-disk cache."""
    found = _kernels(modules)
    for done in range(first, len(found), step):
        name, dispatcher = found[done]
        if progress is not None:
            progress(name, done, len(found))
        _compile(dispatcher)


def _share(modules: Sequence[str], first: int, processes: int, progress: Callable[[str, int, int], None] | None) -> None:
    """Compile the kernels from the `first` on in so many processes, this one among them; each ends with its share."""
    helpers: list[subprocess.Popen[bytes]] = []
    for part in range(1, processes):
        work = f"from promlike.kernel import fill_cache; fill_cache({modules!r}, {first + part}, {processes})"
        # Without a program of Python's, or room for another, the work is done here.
        with suppress(OSError):
            helpers.append(subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    fill_cache(modules, first, processes, progress)
    for helper in helpers:
        helper.wait()


def _compile(dispatcher: Any) -> None:
    for signature in dispatcher.kernel_signatures:
        dispatcher.compile(signature)


def uncached_kernels(modules: Iterable[str] = KERNEL_MODULES) -> list[str]:
    """The kernels that every start compiles again, because neither their folder nor the user's cache folder can be written to."""
    return [name for name, dispatcher in _kernels(modules) if dispatcher.stats.cache_path is None]


def _kernels(modules: Iterable[str]) -> list[tuple[str, Any]]:
    """Name and Numba's dispatcher of every kernel."""
    return [
        (f"{name}.{attribute}", value)
        for name in modules
        for attribute, value in vars(import_module(name)).items()
        if hasattr(value, "kernel_signatures") and value.py_func.__module__ == name
    ]
