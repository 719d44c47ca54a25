"""From the value of an execution to the answer: names dropped, empty series left out, sorted where Prometheus sorts."""

import numpy as np

from promlike.errors import QueryError
from promlike.model.blocks import SampleBlock, StepGrid
from promlike.model.labels import valid_utf8
from promlike.promql.boundaries import with_boundaries
from promlike.promql.budget import CELL_BYTES, SAMPLE_BYTES
from promlike.promql.execution import Execution
from promlike.promql.names import SAME_LABELS, label_order, resolve, resolved_labels
from promlike.promql.result import Matrix, Scalar, String, Vector, bytes_to_write
from promlike.promql.result import Value as ResultValue
from promlike.promql.subquery import samples_of
from promlike.promql.vector import RangeValue, ScalarValue, StringValue, TierValue, Value, VectorValue


def instant_outcome(run: Execution, value: Value, time_ms: int) -> ResultValue:
    """The answer to an instant query; vectors keep the order of their series."""
    match value:
        case VectorValue():
            value = resolve(value)
            rows = np.nonzero(value.block.present[:, 0])[0]
            labels = value.labels if len(rows) == len(value) else value.labels.take(rows)
            return Vector(labels=labels, ts_ms=np.full(len(rows), time_ms, np.int64), values=value.block.values[rows, 0])
        case RangeValue():
            return _windows(run, value)
        case ScalarValue():
            return Scalar(ts_ms=time_ms, value=float(value.values[0]))
        case TierValue():
            raise TypeError("a rollup answers functions only")
        case StringValue():
            return String(ts_ms=time_ms, value=valid_utf8(value.value))


def range_outcome(run: Execution, value: Value, grid: StepGrid) -> Matrix:
    """The answer to a range query: sorted by labels, series without points left out."""
    if isinstance(value, ScalarValue):
        value = VectorValue.single(run.symbols, value.values)
    if not isinstance(value, VectorValue):
        raise TypeError(f"a range query of {type(value).__name__}")
    value = resolve(value)
    rows = np.nonzero(value.block.present.any(axis=1))[0]
    order = rows[label_order(value.labels.take(rows))]
    if len(order) < len(value) or (np.diff(order) < 0).any():
        value = value.take(order)
    return Matrix(labels=value.labels, samples=samples_of(run, value.block, grid.times_ms()))


def _windows(run: Execution, value: RangeValue) -> Matrix:
    """The samples of the only window of each series."""
    labels = resolved_labels(value.labels, value.drop_name)
    mark = run.budget.mark()
    run.budget.hold(0, bytes_to_write(value.samples.count, labels))  # refused before anything is read, when the answer will be
    run.budget.release(mark)
    if len(labels.groups()[1]) < len(labels):
        raise QueryError(SAME_LABELS)
    if value.anchored or value.smoothed:
        return _sorted(run, _without_empty(Matrix(labels=labels, samples=with_boundaries(value))))
    if not isinstance(value.samples, SampleBlock):
        run.budget.hold(0, 2 * value.samples.count * SAMPLE_BYTES)  # read now, and copied when there are stale markers
    samples, end = value.samples.whole(), int(value.ends_ms[0])
    if not samples.count or (samples.ts_ms.min() > end - value.range_ms and samples.ts_ms.max() <= end):
        return _sorted(run, _without_empty(Matrix(labels=labels, samples=samples)))
    run.budget.hold(0, samples.count * (SAMPLE_BYTES + CELL_BYTES))
    inside = (samples.ts_ms > end - value.range_ms) & (samples.ts_ms <= end)
    before = np.concatenate((np.zeros(1, np.int64), np.cumsum(inside, dtype=np.int64)))
    offsets = before[samples.offsets]
    kept = SampleBlock(ts_ms=samples.ts_ms[inside], values=samples.values[inside], offsets=offsets)
    return _sorted(run, _without_empty(Matrix(labels=labels, samples=kept)))


def _without_empty(matrix: Matrix) -> Matrix:
    """The series that have samples."""
    samples = matrix.samples
    rows = np.nonzero(np.diff(samples.offsets))[0]
    offsets = np.append(samples.offsets[rows], samples.offsets[-1])
    return Matrix(labels=matrix.labels.take(rows), samples=SampleBlock(ts_ms=samples.ts_ms, values=samples.values, offsets=offsets))


def _sorted(run: Execution, matrix: Matrix) -> Matrix:
    order = label_order(matrix.labels)
    if (np.diff(order) >= 0).all():
        return matrix
    samples = matrix.samples
    run.budget.hold(0, 2 * samples.count * SAMPLE_BYTES)
    sizes = np.diff(samples.offsets)[order]
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)))
    at = np.arange(offsets[-1]) + np.repeat(samples.offsets[:-1][order] - offsets[:-1], sizes)
    moved = SampleBlock(ts_ms=samples.ts_ms[at], values=samples.values[at], offsets=offsets)
    return Matrix(labels=matrix.labels.take(order), samples=moved)
