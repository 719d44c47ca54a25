"""Warnings and infos of a query: collected beside its value, in order of first occurrence, without duplicates."""

from promlike.promql.ast import Span


class Annotations:
    """Collects the annotations of one query, each text ending in the position it speaks of. Used by one thread at a time."""

    __slots__ = ("_infos", "_query", "_warnings")

    def __init__(self, query: str) -> None:
        self._query = query
        self._warnings: dict[str, None] = {}
        self._infos: dict[str, None] = {}

    def warn(self, message: str, span: Span) -> None:
        """`message` as in `quantile value should be between 0 and 1, got 1.5`."""
        self._warnings.setdefault(f"PromQL warning: {message} ({position(self._query, span)})")

    def info(self, message: str, span: Span) -> None:
        """`message` as in `metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "x"`."""
        self._infos.setdefault(f"PromQL info: {message} ({position(self._query, span)})")

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self._warnings)

    @property
    def infos(self) -> tuple[str, ...]:
        return tuple(self._infos)

    def __len__(self) -> int:
        return len(self._warnings) + len(self._infos)


def position(query: str, span: Span) -> str:
    """`line:column` of where a span starts, counting from 1; columns count bytes of UTF-8, as Prometheus does."""
    before = query[: span.start]
    line_start = before.rfind("\n") + 1
    column = len(before[line_start:].encode("utf-8", "surrogateescape"))
    return f"{before.count(chr(10)) + 1}:{column + 1}"
