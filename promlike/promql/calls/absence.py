"""`absent` and `absent_over_time`: one sample where there is none."""

import numpy as np

from promlike.model.blocks import Bool
from promlike.model.frame import LabelFrame
from promlike.model.labels import METRIC_NAME, labels
from promlike.model.matchers import MatchOp
from promlike.promql import ast
from promlike.promql.calls import arguments
from promlike.promql.calls.over_time import rolling
from promlike.promql.context import CallContext, Evaluator
from promlike.promql.kernels.rollup import Rollup
from promlike.promql.vector import Value, VectorValue

_present_over_time = rolling(Rollup.PRESENT)


def absent(context: CallContext, args: list[Value]) -> VectorValue:
    return absence(context, arguments.vector(args, 0).block.present)


def absent_over_time(context: CallContext, args: list[Value]) -> VectorValue:
    windows = _present_over_time(context, args)
    return absence(context, arguments.vector([windows], 0).block.present)


def absence(context: CallContext, present: Bool) -> VectorValue:
    """One sample at every step at which nothing is in `present bool[S,T]`, with the labels that the argument asks for."""
    found: Bool = np.any(present, axis=0)
    alone = VectorValue.single(context.symbols, np.ones(context.grid.count), ~found)
    pairs = labels(_equalities(context.node.args[0]))
    return VectorValue(labels=LabelFrame.from_labels([pairs], context.symbols), block=alone.block)


def _equalities(expr: ast.Expr) -> dict[str, str]:
    """The labels that the selector asks for with `=`; none for other expressions. A label matched twice is not one of them."""
    while isinstance(expr, ast.Paren):
        expr = expr.inner
    selector = expr.selector if isinstance(expr, ast.MatrixSelector) else expr
    if not isinstance(selector, ast.VectorSelector):
        return {}
    found: dict[str, str] = {}
    seen: set[str] = set()
    for matcher in selector.matchers:
        if matcher.name == METRIC_NAME:
            continue
        if matcher.op is MatchOp.EQUAL and matcher.name not in seen:
            found[matcher.name] = matcher.value
            seen.add(matcher.name)
        else:
            found.pop(matcher.name, None)
    return found


EVALUATORS: dict[str, Evaluator] = {"absent": absent, "absent_over_time": absent_over_time}
