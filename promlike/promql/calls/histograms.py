"""Classic histograms: `histogram_quantile`, `histogram_quantiles`, `histogram_fraction`. What needs native histograms gives nothing."""

from dataclasses import dataclass

import numpy as np

from promlike.errors import QueryError
from promlike.model.blocks import Bool, Float64, Int64, StepBlock
from promlike.model.frame import LabelFrame, intern_all
from promlike.model.labels import METRIC_NAME, quote
from promlike.promql import ast
from promlike.promql.annotations import Forced
from promlike.promql.calls import arguments
from promlike.promql.calls.number_text import format_open_metrics, parse_float
from promlike.promql.calls.over_time import warn_of_quantiles
from promlike.promql.context import CallContext, Evaluator
from promlike.promql.kernels.histogram import classic_histogram
from promlike.promql.vector import Value, VectorValue

BUCKET_LABEL = "le"
NOT_MONOTONIC = (
    "input to histogram_quantile needed to be fixed for monotonicity "
    "(see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Histograms:
    """Bucket series put together: histogram g has the series `rows[offsets[g]:offsets[g+1]]` of the block, by rising bound.

    `rows int64[R]`, `bounds float64[R]` (of rows, in their order), `offsets int64[G+1]`, `labels` and `drop_name` of G histograms.
    """

    block: StepBlock
    rows: Int64
    bounds: Float64
    offsets: Int64
    labels: LabelFrame
    drop_name: Bool | None

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def collect(cls, context: CallContext, buckets: VectorValue, at: ast.Node) -> "Histograms":
        """Group bucket series by their labels without `le`; warn of, and leave out, those whose `le` is no number."""
        le, inverse = np.unique(buckets.labels.column(BUCKET_LABEL), return_inverse=True)
        parsed = [parse_float(text) for text in buckets.labels.symbols.texts(le)]
        shown: Bool = np.any(buckets.block.present, axis=1)
        valid = np.fromiter((bound is not None for bound in parsed), np.bool_, len(parsed))[inverse]
        _warn_of_bounds(context, buckets.labels.take(shown & ~valid), at)
        chosen = np.flatnonzero(shown & valid)
        bounds = np.array([np.nan if bound is None else bound for bound in parsed], np.float64)[inverse[chosen]]
        labels = buckets.labels.take(chosen).drop((BUCKET_LABEL,))
        groups, first = labels.groups()
        # Buckets of the same bound, written differently, are added up: always in the same order, because sums round.
        spelling = np.argsort(np.argsort(buckets.labels.symbols.texts(le)))[inverse[chosen]]
        order = np.lexsort((spelling, bounds, groups))
        return cls(
            block=buckets.block,
            rows=chosen[order],
            bounds=bounds[order],
            offsets=np.searchsorted(groups[order], np.arange(len(first) + 1)).astype(np.int64),
            labels=labels.take(first),
            drop_name=None if buckets.drop_name is None else buckets.drop_name[chosen[first]],
        )

    def compute(self, context: CallContext, first: Float64, second: Float64, *, fraction: bool) -> tuple[VectorValue, Float64]:
        """Quantiles `first[k]`, or fractions between `first[k]` and `second[k]`, of every histogram; and `forced float64[G,6]`, what had
        to be done about falling counts.
        """
        values = np.require(self.block.values, np.float64, ["C", "W"])
        present = np.require(self.block.present, np.bool_, ["C", "W"])
        out, out_present = arguments.new_block(len(self), context.grid.count)
        forced = np.zeros((len(self), 6))

        def chunk(low: int, high: int) -> None:
            classic_histogram(
                values,
                present,
                self.rows,
                self.bounds,
                self.offsets[low : high + 1],
                first,
                second,
                fraction,
                out[low:high],
                out_present[low:high],
                forced[low:high],
            )

        context.map_series(chunk, len(self), work=len(self.rows) * context.grid.count)
        block = StepBlock(values=out, present=out_present)
        return VectorValue(labels=self.labels, block=block, drop_name=self.drop_name), forced


def histogram_quantile(context: CallContext, args: list[Value]) -> VectorValue:
    phi = arguments.scalar(args, 0)
    warn_of_quantiles(context, phi, 0)
    at = context.node.args[1]
    histograms = Histograms.collect(context, arguments.vector(args, 1), at)
    result, forced = histograms.compute(context, phi, phi, fraction=False)
    _inform_of_forced(context, histograms.labels, forced, at)
    return result


def histogram_quantiles(context: CallContext, args: list[Value]) -> VectorValue:
    """Several quantiles at once, told apart by a label: `histogram_quantiles(v, "quantile", 0.5, 0.9)`."""
    label = arguments.string(args, 1)
    if not label:
        raise QueryError(f"invalid quantile label name in histogram_quantiles(): {quote(label)}")
    for index in range(2, len(args)):
        warn_of_quantiles(context, arguments.scalar(args, index), index)
    at = context.node.args[0]
    histograms = Histograms.collect(context, arguments.vector(args, 0), at)
    parts = []
    for index in range(2, len(args)):
        phi = arguments.scalar(args, index)
        result, forced = histograms.compute(context, phi, phi, fraction=False)
        _inform_of_forced(context, histograms.labels, forced, at)
        parts.extend(_labelled(context, result, label, phi))
    return _concat(parts)


def _labelled(context: CallContext, result: VectorValue, label: str, phi: Float64) -> list[VectorValue]:
    """The result with φ as a label: one value for each distinct φ, present at the steps that have it."""
    texts = [format_open_metrics(value) for value in phi.tolist()]
    parts = []
    for text in dict.fromkeys(texts):
        (code,) = intern_all(context.symbols, [text]).tolist()
        labels = result.labels.with_column(label, np.full(len(result), code, np.int32))
        steps = np.fromiter((other == text for other in texts), np.bool_, len(texts))
        block = StepBlock(values=result.block.values, present=result.block.present & steps)
        parts.append(VectorValue(labels=labels, block=block, drop_name=result.drop_name))
    return parts


def _concat(parts: list[VectorValue]) -> VectorValue:
    """The series of all parts, those of one histogram next to each other. All have the same series but for the label."""
    marks = [part.drop_name for part in parts if part.drop_name is not None]
    order = np.arange(len(parts) * len(parts[0])).reshape(len(parts), -1).T.reshape(-1)
    below = VectorValue(
        labels=LabelFrame.concat([part.labels for part in parts]),
        block=StepBlock(
            values=np.concatenate([part.block.values for part in parts]),
            present=np.concatenate([part.block.present for part in parts]),
        ),
        drop_name=np.concatenate(marks) if marks else None,
    )
    return below.take(np.ascontiguousarray(order))


def histogram_fraction(context: CallContext, args: list[Value]) -> VectorValue:
    histograms = Histograms.collect(context, arguments.vector(args, 2), context.node.args[2])
    return histograms.compute(context, arguments.scalar(args, 0), arguments.scalar(args, 1), fraction=True)[0]


def of_native_histograms(context: CallContext, args: list[Value]) -> VectorValue:
    """Floats give nothing."""
    return VectorValue.empty(context.symbols, context.grid.count)


def _warn_of_bounds(context: CallContext, labels: LabelFrame, at: ast.Node) -> None:
    _, first = labels.keep((METRIC_NAME, BUCKET_LABEL)).groups()
    names, bounds = labels.column(METRIC_NAME)[first], labels.column(BUCKET_LABEL)[first]
    for name, bound in zip(labels.symbols.texts(names), labels.symbols.texts(bounds), strict=True):
        context.warn(f'bucket label "le" is missing or has a malformed value of {quote(bound)}{_of_metric(name)}', at)


def _inform_of_forced(context: CallContext, labels: LabelFrame, forced: Float64, at: ast.Node) -> None:
    """An info for each metric that had to be made monotonic; its name is known only where names are dropped at the end."""
    rows = np.flatnonzero(forced[:, 0])
    known = context.features.promql_delayed_name_removal
    names = labels.symbols.texts(labels.column(METRIC_NAME)[rows]) if known else [""] * len(rows)
    for name, (count, first, last, low, high, difference) in zip(names, forced[rows].tolist(), strict=True):
        first_ms, last_ms = (context.grid.start_ms + int(step) * context.grid.step_ms for step in (first, last))
        what = Forced(low=low, high=high, difference=difference, count=int(count), first_ms=first_ms, last_ms=last_ms)
        context.info(f"{NOT_MONOTONIC}{_of_metric(name)}", at, what)


def _of_metric(name: str) -> str:
    return f" for metric name {quote(name)}" if name else ""


EVALUATORS: dict[str, Evaluator] = {
    "histogram_quantile": histogram_quantile,
    "histogram_quantiles": histogram_quantiles,
    "histogram_fraction": histogram_fraction,
    "histogram_avg": of_native_histograms,
    "histogram_count": of_native_histograms,
    "histogram_sum": of_native_histograms,
    "histogram_stddev": of_native_histograms,
    "histogram_stdvar": of_native_histograms,
}
