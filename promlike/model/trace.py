"""What a query really did, as a tree of steps with the time each took, for `trace=1`. Who is not asked for a trace writes into `OFF`."""

from time import perf_counter
from typing import Any

MOST_STEPS = 1000
MOST_LEVELS = 100
"""Of one trace: beyond, steps are left out and counted. orjson writes at most 254 levels of JSON, and a step takes two of them."""
MOST_CHARACTERS = 500
"""Of each text put into a message: queries and matchers may be long."""


class Trace:
    """One step, from its making until `end`, and those that were made within it, in the order in which they began.

    Used by one thread at a time. Messages have the form of `%`: without a trace, what goes into them is never made to text.
    """

    __slots__ = ("_children", "_kept", "_left_out", "_level", "_message", "_root", "_said", "_seconds", "_started")

    is_on = True

    def __init__(self, message: str, *parts: object, parent: "Trace | None" = None) -> None:
        self._message = _text(message, parts)
        self._said = False
        self._children: list[Trace] = []
        self._level: int = 0 if parent is None else parent._level + 1
        self._root: Trace = self if parent is None else parent._root
        self._kept = self._left_out = 0
        """Steps below the root, when this is it."""
        self._seconds: float | None = None
        self._started = perf_counter()

    def child(self, message: str, *parts: object) -> "Trace":
        """A step within this one that begins now. `OFF` when there are too many, or too deep ones."""
        if self._root._kept >= MOST_STEPS or self._level >= MOST_LEVELS:
            self._root._left_out += 1
            return OFF
        self._root._kept += 1
        made = Trace(message, *parts, parent=self)
        self._children.append(made)
        return made

    def add(self, message: str, *parts: object) -> None:
        """Say more of this step, mostly what came of it."""
        self._message += (", " if self._said else ": ") + _text(message, parts)
        self._said = True

    def drop(self, child: "Trace") -> None:
        """Forget a step: what it tried is done in another way."""
        if child in self._children:
            self._children.remove(child)
            self._root._kept -= 1 + _count(child)

    def end(self) -> None:
        """The step is done; the first call counts."""
        if self._seconds is None:
            self._seconds = perf_counter() - self._started

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def tree(self) -> dict[str, Any]:
        """As VictoriaMetrics writes it: `duration_msec`, `message`, and `children` where there are any."""
        shown = _shown(self)
        if self._left_out:
            shown["message"] += f" ({self._left_out} steps, and those within them, are not shown)"
        return shown


class _Off(Trace):
    """Takes everything and keeps nothing."""

    __slots__ = ()

    is_on = False

    def __init__(self) -> None:
        super().__init__("")

    def child(self, message: str, *parts: object) -> "Trace":
        return self

    def add(self, message: str, *parts: object) -> None:
        pass

    def drop(self, child: "Trace") -> None:
        pass

    def end(self) -> None:
        pass


def _text(message: str, parts: tuple[object, ...]) -> str:
    return message % tuple(_cut(part) if isinstance(part, str) else part for part in parts) if parts else message


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"


def _shown(trace: Trace) -> dict[str, Any]:
    trace.end()
    message = trace._message.encode("utf-8", "replace").decode()  # bytes that are no UTF-8 stand in queries as lone surrogates
    shown: dict[str, Any] = {"duration_msec": round((trace._seconds or 0.0) * 1000, 3), "message": message}
    if trace._children:
        shown["children"] = [_shown(child) for child in trace._children]
    return shown


def _count(trace: Trace) -> int:
    return sum(1 + _count(child) for child in trace._children)


OFF: Trace = _Off()
