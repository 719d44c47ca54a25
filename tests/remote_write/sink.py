"""A SampleSink that keeps everything in lists."""

from collections.abc import Sequence

import numpy as np

from promlike.errors import RejectReason, SampleRejected, StorageUnavailable
from promlike.model.blocks import Float64, Int32, Int64
from promlike.model.exemplars import Exemplars
from promlike.model.labels import METRIC_NAME, Labels
from promlike.storage.access import AppendResult, Metadata
from promlike.storage.ref_use import RefUse

Row = tuple[Labels, int, int]
"""Labels, time, and the bits of the value."""


class ListSink:
    """`refuse` names metrics over a limit; `unavailable` makes every append fail; `before_ms` is too old."""

    def __init__(self, *, refuse: frozenset[str] = frozenset(), unavailable: bool = False, before_ms: int | None = None) -> None:
        self.refs: dict[Labels, int] = {}
        self.rows: list[Row] = []
        self.exemplars: list[tuple[Labels, int, float, str]] = []
        self.metadata: list[Metadata] = []
        self.ref_use = RefUse()
        self.refuse = refuse
        self.unavailable = unavailable
        self._before_ms = before_ms

    def series_ref(self, series: Labels) -> int:
        if dict(series)[METRIC_NAME] in self.refuse:
            raise SampleRejected(RejectReason.TOO_MANY_SERIES, f"too many series of {dict(series)[METRIC_NAME]}")
        return self.refs.setdefault(series, len(self.refs))

    async def append(self, refs: Int32, ts_ms: Int64, values: Float64) -> AppendResult:
        if self.unavailable:
            raise StorageUnavailable("the disk is full")
        rows = self.rows_of(refs, ts_ms, values)
        kept = [row for row in rows if self._before_ms is None or row[1] >= self._before_ms]
        self.rows += kept
        return AppendResult(appended=len(kept), rejected=len(rows) - len(kept))

    async def append_exemplars(self, exemplars: Exemplars) -> AppendResult:
        if self.unavailable:
            raise StorageUnavailable("the disk is full")
        names = list(self.refs)
        rows = zip(exemplars.refs.tolist(), exemplars.ts_ms.tolist(), exemplars.values.tolist(), exemplars.labels, strict=True)
        kept = [
            (names[ref], time_ms, value, text)
            for ref, time_ms, value, text in rows
            if self._before_ms is None or time_ms >= self._before_ms
        ]
        self.exemplars += kept
        return AppendResult(appended=len(kept), rejected=len(exemplars) - len(kept))

    async def set_metadata(self, metadata: Sequence[Metadata]) -> None:
        self.metadata += metadata

    def rows_of(self, refs: Int32, ts_ms: Int64, values: Float64) -> list[Row]:
        assert [column.dtype.str for column in (refs, ts_ms, values)] == ["<i4", "<i8", "<f8"]
        assert len(refs) == len(ts_ms) == len(values)
        names = list(self.refs)
        return [
            (names[ref], time_ms, bits)
            for ref, time_ms, bits in zip(refs.tolist(), ts_ms.tolist(), values.view(np.uint64).tolist(), strict=True)
        ]
