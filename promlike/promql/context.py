"""What the evaluator of a function gets besides its arguments."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from typing import Protocol

from promlike.model.blocks import Bool, StepGrid
from promlike.model.frame import SymbolScope
from promlike.promql import ast
from promlike.promql.annotations import Annotations, Forced
from promlike.promql.options import Deadline, Features
from promlike.promql.vector import Value


class Chunks:
    """Spreads the rows of a block over threads. The pool runs chunks only, never whole queries, so waiting for it cannot deadlock."""

    __slots__ = ("_deadline", "_pool", "_threads")

    def __init__(self, pool: ThreadPoolExecutor | None, threads: int, deadline: Deadline) -> None:
        self._pool = pool
        self._threads = threads
        self._deadline = deadline

    def map(self, function: Callable[[int, int], None], count: int, work: int) -> None:
        """Call `function(low, high)` for ranges that cover 0..count; `work` is about how many cells or samples are touched in all.

        The function runs kernels, which release the GIL; small work runs here, at once. Raises what it raises, and past the deadline.
        """
        threads = 1 if self._pool is None else min(self._threads, count, work // SMALLEST_CHUNK)
        parts = min(count, max(threads, work // LARGEST_CHUNK, 1))
        ranges = pairwise(count * part // parts for part in range(parts + 1)) if parts else iter(())
        lock = Lock()

        def work_off() -> None:
            """Take one range after the other, whoever is free; between two of them the query may have been cancelled."""
            while True:
                self._deadline.check()
                with lock:
                    low, high = next(ranges, (0, 0))
                if low == high:
                    return
                function(low, high)

        if self._pool is None or threads <= 1:
            work_off()
            return
        others = [self._pool.submit(work_off) for _ in range(threads - 1)]
        try:
            work_off()
        finally:
            # Those that other queries kept from starting have nothing left to do.
            others = [other for other in others if not other.cancel()]
            wait(others)
        while others:
            others.pop().result()  # popped: the traceback of its error holds this frame, which must not hold the error


SMALLEST_CHUNK = 100_000
"""Cells worth a hand-over to another thread, which costs about 50 µs."""

LARGEST_CHUNK = 2_000_000
"""Cells after which the deadline is looked at: the work of some tens of milliseconds, unless windows are long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryWindow:
    """The times of the whole query, which `start()`, `end()`, `range()` and `step()` speak of; an instant query has step 0."""

    start_ms: int
    end_ms: int
    step_ms: int

    @property
    def range_ms(self) -> int:
        return self.end_ms - self.start_ms


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CallContext:
    """The surroundings of one call.

    `grid` are the times it is evaluated at (inside a subquery those of the subquery; T=1 for a step-invariant call); every value given or
    returned has exactly these T steps. `node.args[i]` is the expression of argument i, its `span` the place of an annotation.
    """

    node: ast.Call
    grid: StepGrid
    window: QueryWindow
    features: Features
    lookback_ms: int
    annotations: Annotations
    symbols: SymbolScope
    chunks: Chunks
    deadline: Deadline

    def warn(self, message: str, at: ast.Node, steps: Bool | None = None) -> None:
        """A warning that points at a node, e.g. `context.warn("…", context.node.args[0])`. `steps bool[T]`: see `Annotations.warn`."""
        self.annotations.warn(message, at.span, steps)

    def info(self, message: str, at: ast.Node, forced: Forced | None = None, steps: Bool | None = None) -> None:
        """An info that points at a node."""
        self.annotations.info(message, at.span, forced, steps)

    def map_series(self, function: Callable[[int, int], None], series: int, work: int | None = None) -> None:
        """Call `function(low, high)` for row ranges that cover 0..series, spread over threads when the work (S x T by default) is big."""
        self.chunks.map(function, series, series * self.grid.count if work is None else work)


class Evaluator(Protocol):
    """How a function is computed. `args` are the values of `context.node.args`, in order; they are not written to.

    Dropping the metric name is the executor's work, by the function's FunctionSpec: an evaluator returns rows with the labels and the
    `drop_name` of its argument. Rows that end up with the same labels are the executor's work too: it merges them where they are never
    present together and raises `vector cannot contain metrics with the same labelset` where they are.
    """

    def __call__(self, context: CallContext, args: list[Value]) -> Value: ...
