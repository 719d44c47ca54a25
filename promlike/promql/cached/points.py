"""Answers to range queries as columns that are kept: cut to a range of steps, put together in the order of time.

Axis letters: S series, N points, P parts, L label names.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promlike.kernel import kernel
from promlike.model.blocks import Float64, Int32, Int64, SampleBlock
from promlike.model.frame import LabelFrame, SymbolScope, intern_all
from promlike.promql.names import label_order
from promlike.promql.result import Matrix


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Points:
    """A Matrix that does not hang on the symbols of a query: `codes int32[S,L]` are places in `texts`, whose first is "": no label."""

    names: tuple[str, ...]
    codes: Int32
    texts: tuple[str, ...]
    samples: SampleBlock

    @property
    def bytes(self) -> int:
        """About what it takes in memory."""
        samples = self.samples
        arrays = self.codes.nbytes + samples.ts_ms.nbytes + samples.values.nbytes + samples.offsets.nbytes
        return arrays + sum(map(len, self.texts)) + 80 * len(self.texts) + 512

    @classmethod
    def of(cls, matrix: Matrix) -> "Points":
        codes = matrix.labels.codes
        used, places = np.unique(np.append(codes.reshape(-1), np.int32(0)), return_inverse=True)
        order = np.argsort(used != 0, kind="stable")  # "" first, where local symbols have negative ids
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order))
        local = rank[places[:-1]].reshape(codes.shape)
        return cls(names=matrix.labels.names, codes=local, texts=tuple(matrix.labels.symbols.texts(used[order])), samples=matrix.samples)

    def matrix(self, symbols: SymbolScope) -> Matrix:
        """With labels in the symbols of a query."""
        codes = intern_all(symbols, self.texts)[self.codes].reshape(self.codes.shape)
        return Matrix(labels=LabelFrame(names=self.names, codes=codes, symbols=symbols), samples=self.samples)

    def cut(self, first_ms: int, last_ms: int) -> "Points":
        """The points at first_ms <= t <= last_ms; series without any are left out."""
        samples = self.samples
        low, high = np.empty(samples.series, np.int64), np.empty(samples.series, np.int64)
        find_rows(samples.ts_ms, samples.offsets, first_ms, last_ms, low, high)
        if (low == samples.offsets[:-1]).all() and (high == samples.offsets[1:]).all():
            return self
        kept = np.flatnonzero(high > low)
        block = _copied([samples], [low[kept]], [high[kept]], np.arange(len(kept)), len(kept))
        return Points(names=self.names, codes=np.ascontiguousarray(self.codes[kept]), texts=self.texts, samples=block)


def joined(parts: Sequence[Points], symbols: SymbolScope) -> Matrix:
    """One answer of P answers to ranges that follow one another, sorted by labels."""
    matrices = [part.matrix(symbols) for part in parts if part.samples.series]
    if not matrices:
        return Matrix(labels=LabelFrame.empty(symbols), samples=SampleBlock.empty())
    if len(matrices) == 1:
        return matrices[0]
    labels = LabelFrame.concat([matrix.labels for matrix in matrices])
    groups, first = labels.groups()
    distinct = labels.take(first)
    order = label_order(distinct)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    blocks = [matrix.samples for matrix in matrices]
    lows, highs = [block.offsets[:-1] for block in blocks], [block.offsets[1:] for block in blocks]
    return Matrix(labels=distinct.take(order), samples=_copied(blocks, lows, highs, rank[groups], len(first)))


def _copied(blocks: Sequence[SampleBlock], lows: Sequence[Int64], highs: Sequence[Int64], rows: Int64, series: int) -> SampleBlock:
    """Runs of points put together: run i, over all blocks, goes behind what row `rows[i]` of so many has already."""
    counts = np.concatenate([high - low for low, high in zip(lows, highs, strict=True)])
    offsets = np.zeros(series + 1, np.int64)
    np.cumsum(np.bincount(rows, weights=counts, minlength=series).astype(np.int64), out=offsets[1:])
    order = np.argsort(rows, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    places = np.empty(len(rows), np.int64)
    places[order] = before
    ts_ms, values = np.empty(offsets[-1], np.int64), np.empty(offsets[-1])
    at = 0
    for block, low, high in zip(blocks, lows, highs, strict=True):
        until = at + len(low)
        copy_runs(block.ts_ms, block.values, np.ascontiguousarray(low), np.ascontiguousarray(high), places[at:until], ts_ms, values)
        at = until
    return SampleBlock(ts_ms=ts_ms, values=values, offsets=offsets)


@kernel("(i8[::1], i8[::1], i8, i8, i8[::1], i8[::1])")
def find_rows(ts_ms: Int64, offsets: Int64, first_ms: int, last_ms: int, low: Int64, high: Int64) -> None:
    """Where the points with first_ms <= t <= last_ms of each of S series start and end: into `low`, `high int64[S]`."""
    for row in range(len(offsets) - 1):
        begin = offsets[row]
        end = offsets[row + 1]
        left = begin
        right = end
        while left < right:
            middle = (left + right) >> 1
            if ts_ms[middle] < first_ms:
                left = middle + 1
            else:
                right = middle
        low[row] = left
        right = end
        while left < right:
            middle = (left + right) >> 1
            if ts_ms[middle] <= last_ms:
                left = middle + 1
            else:
                right = middle
        high[row] = left


@kernel("(i8[::1], f8[::1], i8[::1], i8[::1], i8[::1], i8[::1], f8[::1])")
def copy_runs(ts_ms: Int64, values: Float64, low: Int64, high: Int64, places: Int64, out_ts: Int64, out_values: Float64) -> None:
    """Copy the points low[i]..high[i]-1 to `places[i]` (int64[R] each) of the output."""
    for run in range(len(low)):
        at = places[run]
        for i in range(low[run], high[run]):
            out_ts[at] = ts_ms[i]
            out_values[at] = values[i]
            at += 1
