"""What a query evaluates to, in columns, ready for encoding."""

from dataclasses import dataclass

from promlike.model.blocks import Float64, Int64, SampleBlock
from promlike.model.frame import LabelFrame
from promlike.promql.annotations import Note
from promlike.promql.budget import Lease


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matrix:
    """S series with their points; sorted by labels for range queries. Series without points are left out."""

    labels: LabelFrame
    samples: SampleBlock


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vector:
    """S samples at one time each: `ts_ms int64[S]`, `values float64[S]`. Order is significant (sort, topk)."""

    labels: LabelFrame
    ts_ms: Int64
    values: Float64


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    ts_ms: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class String:
    ts_ms: int
    value: str


WRITTEN_AT_ONCE = 131_072
"""Samples of an answer that are written as JSON together."""

SAMPLE_TEXT_BYTES = 16 + 40
LABEL_TEXT_BYTES = 64
"""About what a sample, and a label, of an answer take at most: the columns and the text."""
WRITING_BYTES = 110
"""What each of the samples that are written together takes besides: digits twice, room for the longest text, the text again."""


def answer_bytes(value: "Value") -> int:
    """About how many bytes a value and its answer take at most."""
    match value:
        case Matrix():
            return bytes_to_write(value.samples.count, value.labels)
        case Vector():
            return bytes_to_write(len(value.ts_ms), value.labels)
        case _:
            return 0


def bytes_to_write(samples: int, labels: LabelFrame) -> int:
    """About how many bytes an answer of so many samples takes at most, its columns included."""
    return samples * SAMPLE_TEXT_BYTES + min(samples, WRITTEN_AT_ONCE) * WRITING_BYTES + labels.codes.size * LABEL_TEXT_BYTES


Value = Matrix | Vector | Scalar | String


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryStats:
    """`stats=all`: seconds spent in each phase; samples looked at in all, a sample once for every step that looks at it, held at the peak,
    and read, each sample once; both by step; at how many steps the query was evaluated, how many of them came from the cache, for which
    nothing was read, and of these from the one that daemons share.
    """

    parse_seconds: float
    queue_seconds: float
    fetch_seconds: float
    eval_seconds: float
    total_samples: int
    peak_samples: int
    samples_read: int
    samples_per_step: tuple[int, ...] = ()
    read_per_step: tuple[int, ...] = ()
    steps: int = 1
    cached_steps: int = 0
    shared_steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QueryResult:
    """A value and its annotations, in order of first occurrence without duplicates, each text as Prometheus writes it.

    `lease` counts the memory of the value and of its answer for as long as one of them is kept. `repeatable` false: what was answered at a
    step may have to do with other steps, because the order of series decided, as between equal values of topk, or because a rollup tier was
    read that was chosen for all steps together. `notes`: the annotations by steps, None when that is not known.
    """

    value: Value
    warnings: tuple[str, ...]
    infos: tuple[str, ...]
    stats: QueryStats
    lease: Lease | None = None
    notes: tuple[Note, ...] | None = None
    repeatable: bool = True
