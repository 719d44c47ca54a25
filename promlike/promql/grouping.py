"""How an aggregation groups series. Axis letters: S series, G groups."""

from dataclasses import dataclass

import numpy as np

from promlike.model.blocks import Int32, Int64
from promlike.model.frame import LabelFrame
from promlike.model.labels import METRIC_NAME
from promlike.promql import ast


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grouping:
    """Groups in order of first occurrence: their labels, each series' `groups int32[S]`, each group's first series `first int64[G]`."""

    labels: LabelFrame
    groups: Int32
    first: Int64

    @property
    def count(self) -> int:
        return len(self.first)

    @classmethod
    def of(cls, labels: LabelFrame, node: ast.Aggregate) -> "Grouping":
        """By the clause of an aggregation. `without` never keeps the metric name."""
        kept = labels.drop((METRIC_NAME, *node.grouping)) if node.without else labels.keep(node.grouping)
        groups, first = kept.groups()
        return cls(labels=kept.take(first), groups=groups, first=first)

    def members(self) -> tuple[Int64, Int64]:
        """The series sorted by group, int64[S], and where each group starts in that order, int64[G+1]."""
        order = np.argsort(self.groups, kind="stable")
        starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.bincount(self.groups, minlength=self.count), dtype=np.int64)))
        return order, starts
