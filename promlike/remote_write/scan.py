"""What a scan of a body fills, and what is found in it on the way to columns of samples."""

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Generic, Self, TypeVar

import numpy as np

from promlike.errors import RejectReason, SampleRejected
from promlike.model.blocks import Float64, Int32, Int64
from promlike.model.exemplars import Exemplars
from promlike.remote_write import kernels
from promlike.remote_write.kernels import PADDING, Bytes
from promlike.storage.access import Metadata


@dataclass(slots=True, eq=False)
class Scratch:
    """Arrays that a scan fills, used again by later scans so that their pages stay mapped. What they hold stands in `kernels.py`."""

    body: Bytes
    refs: Int32
    ts_ms: Int64
    values: Float64
    spans: Int64
    exemplars: Int64
    counts: Int64

    @classmethod
    def empty(cls) -> Self:
        return cls(
            body=np.empty(0, np.uint8),
            refs=np.empty(0, np.int32),
            ts_ms=np.empty(0, np.int64),
            values=np.empty(0),
            spans=np.empty((0, kernels.SPAN), np.int64),
            exemplars=np.empty((0, kernels.EXEMPLAR), np.int64),
            counts=np.zeros(kernels.COUNTS, np.int64),
        )

    @property
    def held_bytes(self) -> int:
        held = (getattr(self, column.name) for column in fields(self))
        return sum(column.nbytes for column in held if isinstance(column, np.ndarray))

    def fit_body(self, size: int) -> None:
        if len(self.body) < size + PADDING:
            self.body = np.empty(size + PADDING, np.uint8)

    def fit_usual(self, size: int) -> None:
        """Room for what nearly every body of `size` bytes holds."""
        # A sample has 9 bytes at least unless it is zero, and then comes with the labels of its series.
        self.fit_rows(size // 16 + 64, size // 64 + 64)

    def fit_any(self, size: int) -> None:
        """Room for whatever a body of `size` bytes can hold."""
        self.fit_rows(size // 2 + 64, size // 2 + 64)

    def fit_rows(self, samples: int, others: int) -> None:
        if len(self.refs) < samples:
            self.refs = np.empty(samples, np.int32)
            self.ts_ms = np.empty(samples, np.int64)
            self.values = np.empty(samples)
        if len(self.spans) < others:
            self.spans = np.empty((others, kernels.SPAN), np.int64)
            self.exemplars = np.empty((others, kernels.EXEMPLAR), np.int64)

    def forget(self) -> None:
        """Let go of what belongs to one body only, before the arrays are used for another."""

    def load(self, data: bytes) -> None:
        """Put an already decoded body in."""
        self.fit_body(len(data))
        self.body[: len(data)] = np.frombuffer(data, np.uint8)


S = TypeVar("S", bound=Scratch)


@dataclass(slots=True, kw_only=True, eq=False)
class Scan(Generic[S]):
    """A body walked; its unseen series are not resolved yet. `resolve` or `discard` takes its arrays back."""

    scratch: S
    samples: int
    spans: int
    series: int
    exemplars: int
    histograms: int
    starts: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedWrite:
    """N samples ready for a SampleSink: `refs int32[N]`, `ts_ms int64[N]`, `values float64[N]`, in the body's order.

    `problems` says, one text a series, which series were refused; `rejected` counts their samples. Of exemplars the same.
    """

    refs: Int32
    ts_ms: Int64
    values: Float64
    metadata: list[Metadata]
    exemplars: Exemplars
    series: int
    histograms: int
    start_timestamps: int = 0
    problems: list[str] = field(default_factory=list)
    rejected: Counter[RejectReason] = field(default_factory=Counter)
    exemplar_problems: list[str] = field(default_factory=list)
    exemplars_rejected: Counter[RejectReason] = field(default_factory=Counter)


@dataclass(slots=True, kw_only=True, eq=False)
class RawExemplar:
    """An Exemplar message: labels as they came, value, time."""

    labels: list[tuple[bytes, bytes]]
    value: float
    ts_ms: int


@dataclass(slots=True, kw_only=True, eq=False)
class Found:
    """What resolving gives: refs by span, int32[spans], -1 where there is none; why those are refused; metadata. And of each exemplar
    value, time and labels as text, or why it is refused.
    """

    refs: Int32
    refusals: dict[int, SampleRejected] = field(default_factory=dict)
    metadata: list[Metadata] = field(default_factory=list)
    exemplars: list[tuple[float, int, str] | SampleRejected] = field(default_factory=list)
