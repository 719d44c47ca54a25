"""Which range queries may be put together from answers to parts of their range, bit for bit.

That needs every step to depend on its own time alone. Three things stand against it: functions of the query's own range; an order of
series that depends on which of them occur at other steps, where the order decides (sums round, ties fall); and the rule that a function of
ranges fails when two series would have the same labels without their names, be it at different steps. What is not known to be free of all
three is not cached. Aggregations of range queries sort by labels what is not known to be in order (`is_ordered`), so that sums round in the
same way whatever the range; ties of topk fall as in Prometheus, by the order of what occurs, and the engine tells of them.
"""

from dataclasses import dataclass

from promlike.model.labels import METRIC_NAME
from promlike.model.matchers import MatchOp
from promlike.promql import ast
from promlike.promql.check import value_type
from promlike.promql.functions import FUNCTIONS
from promlike.promql.options import Features
from promlike.promql.shape import strip_parens

_SINGLE = frozenset("absent absent_over_time scalar vector time pi step max_of min_of".split())
"""Their result is a number, or a single series."""

_RELABEL = frozenset("label_replace label_join".split())

_HISTOGRAMS = frozenset("histogram_quantile histogram_quantiles histogram_fraction".split())

_BY_SERIES = frozenset(
    "abs ceil exp floor ln log2 log10 sgn sqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh deg rad round clamp clamp_min"
    " clamp_max timestamp minute hour day_of_week day_of_month day_of_year days_in_month month year"
    " rate increase delta changes resets irate idelta deriv predict_linear double_exponential_smoothing avg_over_time sum_over_time"
    " min_over_time max_over_time count_over_time stddev_over_time stdvar_over_time present_over_time first_over_time last_over_time"
    " quantile_over_time mad_over_time ts_of_min_over_time ts_of_max_over_time ts_of_first_over_time ts_of_last_over_time".split()
)
"""They make one series of each series of their argument and look at nothing but its samples and the time of the step."""

_AGGREGATIONS = frozenset("sum avg min max stddev stdvar quantile count group count_values topk bottomk".split())
"""Not those whose result depends on the order of series whatever their values are."""

_SET_OPERATORS = frozenset({"and", "or", "unless"})


class _Unsteady(Exception):
    """The expression is not known to be steady."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """What is known of the series of a value.

    `ordered`: of two series the same one comes first, whatever else there is. `one_name`: all have the same name, or none.
    """

    ordered: bool
    one_name: bool

    def without_name(self) -> "_Rows":
        """Series of one name stay apart without it; others may become one, at the place of the first."""
        return _Rows(ordered=self.ordered and self.one_name, one_name=True)


_ONE = _Rows(ordered=True, one_name=True)
_MIXED = _Rows(ordered=False, one_name=False)


def is_steady(expr: ast.Expr, features: Features) -> bool:
    """Does the answer at a step depend on nothing but the step's own time, and the order of the answer on its labels alone?"""
    if features.promql_delayed_name_removal or features.use_start_timestamps or features.type_and_unit_labels:
        return False
    try:
        _rows(expr)
    except _Unsteady:
        return False
    return True


def is_ordered(expr: ast.Expr) -> bool:
    """Is it known that of two series of a vector the same one comes first, whatever others there are at other steps?"""
    expr = strip_parens(expr)
    if isinstance(expr, ast.Aggregate):  # asked for at every level of a tree, which may have a thousand
        return _is_one_series(expr)
    try:
        return _rows(expr).ordered
    except _Unsteady:
        return False


def _rows(expr: ast.Expr) -> _Rows:
    match expr:
        case ast.NumberLiteral() | ast.StringLiteral():
            return _ONE
        case ast.Paren():
            return _rows(expr.inner)
        case ast.VectorSelector():
            return _selector(expr)
        case ast.MatrixSelector():
            _check_duration(expr.range)
            return _rows(expr.selector)
        case ast.Subquery():
            _check_place(expr)
            _check_duration(expr.range)
            _check_duration(expr.step)
            return _rows(expr.expr)
        case ast.Unary():
            inner = _rows(expr.operand)
            return inner if expr.op == "+" else inner.without_name()
        case ast.Binary():
            return _binary(expr)
        case ast.Call():
            return _call(expr)
        case ast.Aggregate():
            return _aggregate(expr)


def _selector(node: ast.VectorSelector) -> _Rows:
    _check_place(node)
    if node.anchored or node.smoothed:
        raise _Unsteady
    named = node.name is not None or any(
        matcher.name == METRIC_NAME and matcher.op is MatchOp.EQUAL and matcher.value for matcher in node.matchers
    )
    return _Rows(ordered=True, one_name=named)


def _check_place(node: ast.VectorSelector | ast.Subquery) -> None:
    if node.at is not None and node.at.kind is not ast.AtKind.TIME:
        raise _Unsteady
    _check_duration(node.offset)


def _check_duration(duration: ast.DurationExpr | None) -> None:
    """`step()` is the same for all parts of a range, `range()` is not."""
    match duration:
        case ast.DurationCall(function="range"):
            raise _Unsteady
        case ast.DurationCall(args=args):
            for arg in args:
                _check_duration(arg)
        case ast.DurationUnary(operand=operand):
            _check_duration(operand)
        case ast.DurationBinary(left=left, right=right):
            _check_duration(left)
            _check_duration(right)
        case ast.DurationParen(inner=inner):
            _check_duration(inner)


def _binary(node: ast.Binary) -> _Rows:
    left, right = _rows(node.left), _rows(node.right)
    filters = node.op in ("==", "!=", ">", "<", ">=", "<=") and not node.bool_modifier
    matching = node.matching
    if matching is None:
        vectors = [rows for rows, side in ((left, node.left), (right, node.right)) if value_type(side) is ast.ValueType.VECTOR]
        return _ONE if not vectors else vectors[0] if filters else vectors[0].without_name()
    if matching.fill_left is not None or matching.fill_right is not None:
        raise _Unsteady
    if node.op in _SET_OPERATORS:
        return _MIXED if node.op == "or" else left
    many = right if matching.card is ast.Card.ONE_TO_MANY else left
    result = many if filters else many.without_name()
    # Elsewhere several series of the "many" side can become one series of the result, at the place of the first of them.
    each_its_own = not matching.include if matching.card is not ast.Card.ONE_TO_ONE else not matching.on and not matching.labels
    return _Rows(ordered=result.ordered and many.one_name and each_its_own, one_name=result.one_name)


def _call(node: ast.Call) -> _Rows:
    args = [_rows(arg) for arg in node.args]
    if node.function in _SINGLE:
        return _ONE
    if node.function in _RELABEL:
        return _MIXED
    if node.function in _HISTOGRAMS:
        return _Rows(ordered=False, one_name=True)
    if node.function not in _BY_SERIES:
        raise _Unsteady
    series = [
        (value_type(arg), rows)
        for arg, rows in zip(node.args, args, strict=True)
        if value_type(arg) in (ast.ValueType.VECTOR, ast.ValueType.MATRIX)
    ]
    if not series:
        return _ONE
    ((kind, rows),) = series
    if not FUNCTIONS[node.function].drops_name:
        return rows
    if kind is ast.ValueType.MATRIX and not rows.one_name:
        raise _Unsteady
    return rows.without_name()


def _aggregate(node: ast.Aggregate) -> _Rows:
    operand = _rows(node.expr)
    if node.param is not None:
        _rows(node.param)
    if node.op not in _AGGREGATIONS:
        raise _Unsteady
    if node.op in ("topk", "bottomk"):
        return _Rows(ordered=False, one_name=operand.one_name)
    if node.op == "count_values":
        return _MIXED
    one_name = node.without or METRIC_NAME not in node.grouping or operand.one_name
    return _Rows(ordered=_is_one_series(node), one_name=one_name)


def _is_one_series(node: ast.Aggregate) -> bool:
    return node.op not in ("topk", "bottomk", "limitk", "limit_ratio", "count_values") and not node.without and not node.grouping
