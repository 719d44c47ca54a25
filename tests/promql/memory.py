"""A source of samples in memory, for tests of the query engine."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from promlike.errors import TooManySamples
from promlike.model.blocks import Float64, Int64, SampleBlock
from promlike.model.frame import LabelFrame, Symbols, SymbolScope
from promlike.model.labels import Labels
from promlike.model.trace import OFF, Trace
from promlike.storage.access import Loading, Selection, SelectRequest, SeriesBlock


@dataclass(slots=True)
class Samples:
    """One series: values by time, and when its counter started by time (0 or missing: unknown)."""

    values: dict[int, float] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)


class MemorySource:
    """Implements `Queryable` over dictionaries; slow and obvious."""

    def __init__(self) -> None:
        self._series: dict[Labels, Samples] = {}
        self._symbols = Symbols()

    def add(self, labels: Labels, points: Iterable[tuple[int, float]], starts: Iterable[tuple[int, int]] = ()) -> None:
        """Add samples; one of the same time replaces an older one."""
        series = self._series.setdefault(labels, Samples())
        series.values.update(points)
        series.starts.update(starts)

    async def load(self, labels: Labels, points: list[tuple[int, float]], starts: list[tuple[int, int]]) -> None:
        self.add(labels, points, starts)

    async def select(
        self, requests: Sequence[SelectRequest], *, max_samples: int, loading: Loading | None = None, trace: Trace = OFF
    ) -> Selection:
        symbols = SymbolScope(self._symbols)
        blocks = [self._block(request, symbols) for request in requests]
        needed = sum(block.samples.count for block in blocks)
        if needed > max_samples:
            raise TooManySamples(f"{needed} samples needed, {max_samples} allowed")
        return Selection(symbols=symbols, blocks=blocks)

    def _block(self, request: SelectRequest, symbols: SymbolScope) -> SeriesBlock:
        found: list[tuple[Labels, list[int], Samples]] = []
        for labels in sorted(self._series):
            texts = dict(labels)
            if all(matcher.matches(texts.get(matcher.name, "")) for matcher in request.matchers):
                series = self._series[labels]
                times = sorted(ts for ts in series.values if request.start_ms < ts <= request.end_ms)
                if times:
                    found.append((labels, times, series))
        samples = SampleBlock(
            ts_ms=np.array([ts for _, times, _ in found for ts in times], np.int64),
            values=np.array([series.values[ts] for _, times, series in found for ts in times], np.float64),
            offsets=np.cumsum([0, *(len(times) for _, times, _ in found)], dtype=np.int64),
            start_ts_ms=np.array([series.starts.get(ts, 0) for _, times, series in found for ts in times], np.int64),
        )
        samples.validate()
        return SeriesBlock(labels=LabelFrame.from_labels([labels for labels, _, _ in found], symbols), samples=samples)


class RegularSource:
    """Implements `Queryable` over series that all have samples at the same times: large and fast, for measurements."""

    def __init__(self, series: Sequence[Labels], ts_ms: Int64, values: Float64) -> None:
        """`ts_ms int64[K]`, `values float64[S,K]`."""
        order = sorted(range(len(series)), key=series.__getitem__)
        self._base = Symbols()
        for labels in series:
            for _, text in labels:
                self._base.intern(text)
        self._labels = LabelFrame.from_labels([series[i] for i in order], SymbolScope(self._base))
        self._ts_ms = ts_ms
        self._values = np.ascontiguousarray(values[order])

    async def select(
        self, requests: Sequence[SelectRequest], *, max_samples: int, loading: Loading | None = None, trace: Trace = OFF
    ) -> Selection:
        symbols = SymbolScope(self._base)
        return Selection(symbols=symbols, blocks=[self._block(request, symbols) for request in requests])

    def _block(self, request: SelectRequest, symbols: SymbolScope) -> SeriesBlock:
        chosen = np.ones(len(self._labels), np.bool_)
        for matcher in request.matchers:
            codes, inverse = np.unique(self._labels.column(matcher.name), return_inverse=True)
            chosen &= np.array([matcher.matches(self._base.text(int(code))) for code in codes])[inverse]
        first, last = (int(np.searchsorted(self._ts_ms, edge, side="right")) for edge in (request.start_ms, request.end_ms))
        values = self._values[chosen, first:last]
        labels = LabelFrame(names=self._labels.names, codes=np.ascontiguousarray(self._labels.codes[chosen]), symbols=symbols)
        count, width = values.shape
        samples = SampleBlock(
            ts_ms=np.tile(self._ts_ms[first:last], count),
            values=np.ascontiguousarray(values).reshape(-1),
            offsets=np.arange(count + 1, dtype=np.int64) * width,
        )
        return SeriesBlock(labels=labels, samples=samples)
