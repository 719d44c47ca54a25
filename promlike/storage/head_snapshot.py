"""What a flush takes from the head: everything of each series up to a time, and the samples that came late."""

from dataclasses import dataclass

import numpy as np

from promlike.model.blocks import Float64, Int32, Int64

LatePart = tuple[Int32, Int64, Int64]
"""Refs, times and bits of late samples, in the order they came."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LateSamples:
    """Samples at or before what is, or is just being, flushed: int32[N], int64[N], float64[N], sorted by (ref, time), the last write
    of each time only.
    """

    refs: Int32
    ts_ms: Int64
    values: Float64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeadSnapshot:
    """What a flush stores: of each series below `series` the samples in (flushed_ms, upto_ms], and the late ones."""

    series: int
    flushed_ms: Int64
    upto_ms: Int64
    late_parts: list[LatePart]
    unflushed: int

    def late(self) -> LateSamples:
        """The late samples in order. They may be many: not to be called on the event loop."""
        return _settle(self.late_parts, self.flushed_ms)


def _settle(late: list[LatePart], flushed_ms: Int64) -> LateSamples:
    """Sort what came late, keep the last write of each time, leave out what is newer than the store (the chains hold it)."""
    refs = np.concatenate([part[0] for part in late]) if late else np.empty(0, np.int32)
    ts = np.concatenate([part[1] for part in late]) if late else np.empty(0, np.int64)
    bits = np.concatenate([part[2] for part in late]) if late else np.empty(0, np.int64)
    rows = np.flatnonzero(ts <= flushed_ms[refs])
    rows = rows[np.lexsort((rows, ts[rows], refs[rows]))]
    newest = np.ones(len(rows), bool)
    newest[:-1] = (refs[rows[1:]] != refs[rows[:-1]]) | (ts[rows[1:]] != ts[rows[:-1]])
    rows = rows[newest]
    return LateSamples(refs=refs[rows], ts_ms=ts[rows], values=bits[rows].view(np.float64))
