"""What the rest of promlike sees of storage: PromQL reads through `Queryable`, the API through `LabelReader`, who brings samples writes to
`SampleSink`.

Openness of intervals is decided here, once: every range of times is left-open and right-closed, `start_ms < ts_ms <= end_ms`,
as range windows are in Prometheus 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, runtime_checkable

import numpy as np

from promlike.model.blocks import Float64, Int32, Int64, Samples, StepGrid
from promlike.model.exemplars import Exemplars
from promlike.model.frame import LabelFrame, SymbolScope
from promlike.model.labels import Labels
from promlike.model.matchers import Matcher
from promlike.model.tiers import COLUMN_TYPES, Tier, TierColumn, wanted_names
from promlike.model.trace import OFF, Trace
from promlike.storage.ref_use import RefUse


class Fit(IntEnum):
    """How well the rows of a tier answer what a selector asks."""

    EXACT = 0
    """Every window holds whole buckets."""
    CLOSE = 1
    """Windows are moved back by a small part of their length."""
    ROUGH = 2
    """Windows are moved by much, or widened: better than nothing, where the samples themselves are gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierOption:
    """A tier that could answer a request in place of samples: rows of buckets that end in (start_ms, end_ms], both multiples of the
    resolution, with these columns. `forced`: the tier was asked for by name.
    """

    resolution_ms: int
    start_ms: int
    end_ms: int
    columns: TierColumn
    fit: Fit
    forced: bool = False

    @property
    def row_bytes(self) -> int:
        """What a row takes in memory."""
        return sum(np.dtype(COLUMN_TYPES[name]).itemsize for name in wanted_names(self.columns))


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectRequest:
    """The samples one selector of a query needs: series that satisfy all matchers, times in (start_ms, end_ms].

    `instants`: of each series only the newest sample at or before each of these times is needed; the answer may still hold more.
    `at_once`: the samples must be given as a block, not read later. `tiers`: what may be given in place of samples, the finest first.
    """

    matchers: tuple[Matcher, ...]
    start_ms: int
    end_ms: int
    instants: StepGrid | None = None
    at_once: bool = False
    tiers: tuple[TierOption, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TierChoice:
    """What would answer some requests now: the tiers of these resolutions, samples alone without any.

    `is_mixed`: samples would answer one of them that a tier could answer. `is_settled`: rows that would be read are what their samples make
    of them, and will be. `oldest_row_ms`: before that time none may be seen.
    """

    resolutions_ms: frozenset[int]
    is_mixed: bool
    is_settled: bool
    oldest_row_ms: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesBlock:
    """The answer to one request: labels and samples of S series, row for row. Series without a sample in the range are left out.

    Stale markers are included. Only the samples of a request with `instants` or `at_once` are sure to be a block already.
    `tier`: the rows of one of the request's `tiers`, in place of samples, of which there are none then.
    """

    labels: LabelFrame
    samples: Samples
    tier: Tier | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selection:
    """The answers to all requests of a query, in their order; all frames share `symbols`.

    `warnings` say what is missing because the store is away; without any, the answers are whole.
    """

    symbols: SymbolScope
    blocks: list[SeriesBlock]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What is known of a metric family: `type` as in the exposition formats (counter, gauge, …, unknown)."""

    metric: str
    type: str
    help: str
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendResult:
    """What became of N samples: `duplicates` were there already with the same value, `overwritten` replaced another value.

    `refusal` tells of the first rejected sample its series, its time and the limit.
    """

    appended: int
    duplicates: int = 0
    overwritten: int = 0
    rejected: int = 0
    refusal: str = ""


class SampleSink(Protocol):
    """What remote write, scraping and rules write into. Called from the event loop's thread only.

    Long after its last sample a series is forgotten, and another may get its ref: so who keeps refs for later says that to `ref_use`, and
    who uses some that such a holder gave away meanwhile does that inside `ref_use.using()`.
    """

    ref_use: RefUse

    def series_ref(self, series: Labels) -> int:
        """The ref of a series, created when new. The labels are valid and sorted: the caller has checked them.

        Raises SampleRejected when a limit forbids a new series.
        """
        ...

    async def append(self, refs: Int32, ts_ms: Int64, values: Float64) -> AppendResult:
        """Store samples (int32[N], int64[N], float64[N], any order); durable when this returns, as are the series they belong to.

        The arrays belong to the sink from now on: the caller does not write into them again.
        Raises StorageUnavailable when the WAL cannot take them; nothing is acknowledged then.
        """
        ...

    async def append_exemplars(self, exemplars: Exemplars) -> AppendResult:
        """Store exemplars of series that have refs; durable when this returns. One that is there already counts as a duplicate.

        Raises StorageUnavailable as `append` does.
        """
        ...

    async def set_metadata(self, metadata: Sequence[Metadata]) -> None:
        """Remember metadata; the newest of a metric wins. Kept across restarts."""
        ...


class LabelReader(Protocol):
    """Label look-ups for the API. Times select series with samples in (start_ms, end_ms]; None leaves the end open.

    `matcher_sets` is a disjunction: a series counts when it satisfies all matchers of any set; an empty list means every series.
    Answers are sorted; `limit` 0 means all. The second value says whether the limit cut the answer.
    """

    async def series(
        self, matcher_sets: Sequence[Sequence[Matcher]], *, start_ms: int | None, end_ms: int | None, limit: int = 0
    ) -> tuple[list[Labels], bool]: ...

    async def label_names(
        self, matcher_sets: Sequence[Sequence[Matcher]], *, start_ms: int | None, end_ms: int | None, limit: int = 0
    ) -> tuple[list[str], bool]: ...

    async def label_values(
        self, name: str, matcher_sets: Sequence[Sequence[Matcher]], *, start_ms: int | None, end_ms: int | None, limit: int = 0
    ) -> tuple[list[str], bool]: ...

    def metadata(self) -> Mapping[str, Metadata]:
        """The newest that is known of each metric family. Do not keep it: it changes."""
        ...


class Loading(Protocol):
    """What a query may load into memory. From any thread."""

    def room(self) -> int:
        """How many bytes one `select` may load now."""
        ...

    def load(self, size: int) -> None:
        """So many bytes are, or will be next, loaded by this `select` in all. Raises QueryError or Overloaded if that is too much."""
        ...


class Queryable(Protocol):
    """What a query reads from."""

    async def select(
        self, requests: Sequence[SelectRequest], *, max_samples: int, loading: Loading | None = None, trace: Trace = OFF
    ) -> Selection:
        """Fetch the samples of all requests together; `loading` is told before much is loaded, `trace` of what is done.

        Raises TooManySamples before loading when the answers together would hold more than max_samples samples.
        """
        ...


@runtime_checkable
class Immediate(Protocol):
    """A Queryable that can answer small requests on the spot."""

    def select_at_once(self, requests: Sequence[SelectRequest], *, max_samples: int, trace: Trace = OFF) -> Selection | None:
        """The answer, had in about a millisecond; None when that cannot be."""
        ...
