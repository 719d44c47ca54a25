"""The text formats: Prometheus's text 0.0.4 (with UTF-8 names in quotes) and OpenMetrics 1.0, into columns of samples.

The kernel finds lines, series known by their bytes, and the plain numbers. What is left, the labels of new series and unusual numbers, is
read here and in `series_text.py`.
"""

from dataclasses import dataclass

import numpy as np

from promlike.errors import PromlikeError
from promlike.model.blocks import Float64, Int32, Int64
from promlike.remote_write.series_table import SeriesTable
from promlike.scrape import kernels
from promlike.scrape.kernels import PADDING, Bytes, scan
from promlike.scrape.numbers import parse_float, parse_milliseconds, parse_seconds

NORMAL_NAN_BITS = np.uint64(0x7FF8000000000001)
"""Every NaN in a text becomes this one, as in Prometheus, so that none is taken for a stale marker."""


class ExpositionError(PromlikeError):
    """A target's answer is malformed; the scrape fails as a whole. `samples` lines were read before the bad one."""

    def __init__(self, line: int, problem: str, text: str, samples: int) -> None:
        super().__init__(f"line {line}: {problem}: {text!r}")
        self.samples = samples


@dataclass(slots=True, kw_only=True, eq=False)
class Exposition:
    """What one pass found: N samples as `which int32[N]`, `ts_ms int64[N]`, `values float64[N]` (see `kernels.scan`).

    `unseen int64[K, 3]`: start and end of the bytes of a series not in the table, and its sample. `metadata int64[M, 3]`: HELP, TYPE and
    UNIT lines and the sample after them, whose content has the hash `metadata_hash`. `exemplars int64[X, 3]`: exemplars and their samples.
    """

    body: Bytes
    openmetrics: bool
    which: Int32
    ts_ms: Int64
    values: Float64
    unseen: Int64
    metadata: Int64
    metadata_hash: int
    exemplars: Int64

    @property
    def samples(self) -> int:
        return len(self.which)

    def text(self, start: int, end: int) -> bytes:
        return self.body[start:end].tobytes()

    def error(self, at: int, problem: str, samples: int) -> ExpositionError:
        """A problem with the line that holds byte `at`."""
        return _error(self.body, len(self.body) - PADDING, at, problem, samples)


_PROBLEMS = {
    kernels.NO_VALUE: "a value is missing after the series",
    kernels.AFTER_VALUE: "unexpected text after the value",
    kernels.NO_SERIES: "not a series: a name, or a complete label set in braces, is needed here",
    kernels.BLANK_LINE: "OpenMetrics does not allow empty lines",
    kernels.UNKNOWN_COMMENT: "OpenMetrics allows only # HELP, # TYPE, # UNIT and # EOF lines",
    kernels.AFTER_EOF: "unexpected text after # EOF",
}


def read_exposition(body: bytearray, table: SeriesTable, *, openmetrics: bool) -> Exposition:
    """Read a body, which is padded in place. Raise ExpositionError naming the first malformed line."""
    size = len(body)
    lines = body.count(b"\n") + 1
    body.extend(bytes(PADDING))
    data = np.frombuffer(body, np.uint8)
    which, ts_ms, values = np.empty(lines, np.int32), np.empty(lines, np.int64), np.empty(lines)
    spans = np.empty((4 * lines + 1, 4), np.int64)
    counts = np.zeros(kernels.COUNTS, np.int64)
    arrays = table.arrays
    counts[kernels.ENTRY] = arrays.last
    scan(
        data,
        size,
        int(openmetrics),
        arrays.slots,
        arrays.entries,
        arrays.used,
        arrays.arena,
        table.seed,
        which,
        ts_ms,
        values,
        spans,
        counts,
    )
    arrays.last = int(counts[kernels.ENTRY])
    samples = int(counts[kernels.SAMPLES])
    if counts[kernels.STATUS] != kernels.OK:
        raise _error(data, size, int(counts[kernels.POSITION]), _PROBLEMS[int(counts[kernels.STATUS])], samples)
    if openmetrics and not counts[kernels.EOF]:
        raise _error(data, size, max(size - 1, 0), "the data does not end with # EOF", samples)
    spans = spans[: counts[kernels.SPANS]]
    kinds = spans[:, 0]
    found = Exposition(
        body=data,
        openmetrics=openmetrics,
        which=which[:samples],
        ts_ms=ts_ms[:samples],
        values=values[:samples],
        unseen=np.ascontiguousarray(spans[kinds == kernels.UNSEEN, 1:]),
        metadata=spans[kinds == kernels.METADATA, 1:],
        metadata_hash=int(counts[kernels.METADATA_HASH]),
        exemplars=spans[kinds == kernels.EXEMPLAR, 1:],
    )
    _read_numbers(found, spans[(kinds == kernels.VALUE) | (kinds == kernels.TIME)])
    return found


def _read_numbers(found: Exposition, spans: Int64) -> None:
    """The numbers that the kernel left, put into their columns."""
    for kind, start, end, sample in spans.tolist():
        text = found.text(start, end)
        try:
            if kind == kernels.VALUE:
                found.values[sample] = parse_float(text)
            else:
                found.ts_ms[sample] = parse_seconds(text) if found.openmetrics else parse_milliseconds(text)
        except ValueError as error:
            raise found.error(start, str(error), sample) from error
    nan = np.isnan(found.values)
    if nan.any():
        found.values.view(np.uint64)[nan] = NORMAL_NAN_BITS


def _error(data: Bytes, size: int, at: int, problem: str, samples: int) -> ExpositionError:
    before = data[:at].tobytes()
    start = before.rfind(b"\n") + 1
    text = data[start:size].tobytes().split(b"\n", 1)[0]
    return ExpositionError(before.count(b"\n") + 1, problem, text[:200].decode(errors="replace"), samples)
