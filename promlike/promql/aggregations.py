"""The one table of aggregation operators."""

from dataclasses import dataclass

from promlike.promql.ast import ValueType


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregationSpec:
    """An aggregation operator: the type of its parameter, if it takes one, and whether it needs promql-experimental-functions."""

    name: str
    param: ValueType | None = None
    experimental: bool = False


AGGREGATIONS: dict[str, AggregationSpec] = {
    spec.name: spec
    for spec in (
        *(AggregationSpec(name=name) for name in "sum avg count min max group stddev stdvar".split()),
        *(AggregationSpec(name=name, param=ValueType.SCALAR) for name in "topk bottomk quantile".split()),
        AggregationSpec(name="count_values", param=ValueType.STRING),
        *(AggregationSpec(name=name, param=ValueType.SCALAR, experimental=True) for name in "limitk limit_ratio".split()),
    )
}
