"""The one table of functions: types of arguments and result, what stays of the name, and which feature switches them on."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from promlike.promql.ast import ValueType
from promlike.promql.calls.table import EVALUATORS
from promlike.promql.calls.tiers import OVER_TIERS, OverTiers
from promlike.promql.context import Evaluator
from promlike.promql.options import Features

EXPERIMENTAL = "promql_experimental_functions"
START_TIMESTAMPS = "use_start_timestamps"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    """A function of PromQL.

    `args` are the types of all arguments; the last `optional` of them may be left out, and with `variadic` the last one may also be
    repeated. `feature` is the field of `Features` that switches the function on. `anchored` and `smoothed` say
    whether it takes ranges so extended. `evaluate` computes it; None where only the executor can. `over_tiers` computes it from rows of a
    rollup; None where those do not tell enough.
    """

    name: str
    args: tuple[ValueType, ...] = ()
    optional: int = 0
    variadic: bool = False
    returns: ValueType = ValueType.VECTOR
    drops_name: bool = True
    feature: str | None = None
    anchored: bool = False
    smoothed: bool = False
    evaluate: Evaluator | None = None
    over_tiers: OverTiers | None = None

    @property
    def experimental(self) -> bool:
        return self.feature is not None

    @property
    def min_args(self) -> int:
        return len(self.args) - self.optional

    @property
    def max_args(self) -> int | None:
        """None: no limit."""
        return None if self.variadic else len(self.args)

    def arg_type(self, index: int) -> ValueType:
        """The type the argument at this index must have; the last type repeats."""
        return self.args[min(index, len(self.args) - 1)]

    def enabled(self, features: Features) -> bool:
        return self.feature is None or bool(getattr(features, self.feature))


_SCALAR, _VECTOR, _MATRIX, _STRING = ValueType.SCALAR, ValueType.VECTOR, ValueType.MATRIX, ValueType.STRING

RENAMED = {"holt_winters": "double_exponential_smoothing"}
"""Old names that are no functions any more, with their new names."""


def _each(names: str, *args: ValueType, **rest: object) -> Iterable[FunctionSpec]:
    return (FunctionSpec(name=name, args=args, **rest) for name in names.split())  # type: ignore[arg-type]  # keywords of FunctionSpec


_SPECS: tuple[FunctionSpec, ...] = (
    # Of every sample its own result.
    *_each("abs ceil exp floor ln log2 log10 sgn sqrt", _VECTOR),
    *_each("sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh deg rad", _VECTOR),
    *_each("round", _VECTOR, _SCALAR, optional=1),
    *_each("clamp", _VECTOR, _SCALAR, _SCALAR),
    *_each("clamp_min clamp_max", _VECTOR, _SCALAR),
    # Time. The time zone of the date functions, a name of the IANA database, is promlike's own extension.
    *_each("timestamp", _VECTOR),
    *_each("start_timestamp", _VECTOR, feature=START_TIMESTAMPS),
    *_each("minute hour day_of_week day_of_month day_of_year days_in_month month year", _VECTOR, _STRING, optional=2),
    *_each("time pi", returns=_SCALAR),
    *_each("start end range step", returns=_SCALAR, feature=EXPERIMENTAL),
    # Between types.
    *_each("scalar", _VECTOR, returns=_SCALAR),
    *_each("vector", _SCALAR),
    *_each("max_of min_of", _SCALAR, _SCALAR, returns=_SCALAR, feature=EXPERIMENTAL),
    # Absence, order, labels.
    *_each("absent", _VECTOR),
    *_each("absent_over_time", _MATRIX),
    *_each("sort sort_desc", _VECTOR, drops_name=False),
    *_each("sort_by_label sort_by_label_desc", _VECTOR, _STRING, optional=1, variadic=True, drops_name=False, feature=EXPERIMENTAL),
    *_each("label_replace", _VECTOR, _STRING, _STRING, _STRING, _STRING, drops_name=False),
    *_each("label_join", _VECTOR, _STRING, _STRING, _STRING, optional=1, variadic=True, drops_name=False),
    *_each("info", _VECTOR, _VECTOR, optional=1, drops_name=False, feature=EXPERIMENTAL),
    # Over a range.
    *_each("rate increase delta", _MATRIX, anchored=True, smoothed=True),
    *_each("changes resets", _MATRIX, anchored=True),
    *_each("irate idelta deriv", _MATRIX),
    *_each("predict_linear", _MATRIX, _SCALAR),
    *_each("double_exponential_smoothing", _MATRIX, _SCALAR, _SCALAR, feature=EXPERIMENTAL),
    *_each("avg_over_time sum_over_time min_over_time max_over_time count_over_time", _MATRIX),
    *_each("stddev_over_time stdvar_over_time present_over_time", _MATRIX),
    *_each("first_over_time last_over_time", _MATRIX, drops_name=False),
    *_each("quantile_over_time", _SCALAR, _MATRIX),
    *_each("mad_over_time", _MATRIX, feature=EXPERIMENTAL),
    *_each("ts_of_min_over_time ts_of_max_over_time ts_of_first_over_time ts_of_last_over_time", _MATRIX, feature=EXPERIMENTAL),
    # Histograms.
    *_each("histogram_quantile", _SCALAR, _VECTOR),
    *_each("histogram_quantiles", _VECTOR, _STRING, *(_SCALAR,) * 10, optional=9, feature=EXPERIMENTAL),
    *_each("histogram_fraction", _SCALAR, _SCALAR, _VECTOR),
    *_each("histogram_avg histogram_count histogram_sum histogram_stddev histogram_stdvar", _VECTOR),
)

FUNCTIONS: dict[str, FunctionSpec] = {
    spec.name: replace(spec, evaluate=EVALUATORS.get(spec.name), over_tiers=OVER_TIERS.get(spec.name)) for spec in _SPECS
}
