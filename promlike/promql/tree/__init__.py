"""Builds the syntax tree while Lark reduces: one method per rule of grammar.lark."""

from promlike.promql.tree.durations import DurationRules
from promlike.promql.tree.modifiers import ModifierRules
from promlike.promql.tree.operands import OperandRules
from promlike.promql.tree.operators import OperatorRules
from promlike.promql.tree.parts import Built


class Builder(OperatorRules, ModifierRules, OperandRules, DurationRules):
    """Lark's transformer. Holds no state, so one builder serves all threads."""

    def start(self, children: list[Built]) -> Built:
        return children[0]
