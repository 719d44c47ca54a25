"""Relabelling rules, as they stand in the file. `scrape/relabel.py` applies them."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import yaml

from promlike.config.names import LABEL_NAME, REGEX
from promlike.config.section import setting
from promlike.config.values import TEXT, Kind, choice, integer, items


class Action(StrEnum):
    """What a rule does with the labels."""

    REPLACE = "replace"
    KEEP = "keep"
    DROP = "drop"
    KEEP_EQUAL = "keepequal"
    DROP_EQUAL = "dropequal"
    HASHMOD = "hashmod"
    LABELMAP = "labelmap"
    LABELDROP = "labeldrop"
    LABELKEEP = "labelkeep"
    LOWERCASE = "lowercase"
    UPPERCASE = "uppercase"


_ANY_CASE = choice(*Action)
ACTION: Kind[Action] = Kind(
    read=lambda node, document, path: Action(_ANY_CASE.read(_lower(node), document, path)),
    write=lambda action: action.value,
)


def _lower(node: yaml.Node) -> yaml.Node:
    """Actions are known in any case."""
    if isinstance(node, yaml.ScalarNode):
        return yaml.ScalarNode(node.tag, node.value.lower(), node.start_mark, node.end_mark)
    return node


DEFAULT_REGEX = "(.*)"
DEFAULT_REPLACEMENT = "$1"

NEEDS_TARGET = {Action.REPLACE, Action.HASHMOD, Action.LOWERCASE, Action.UPPERCASE, Action.KEEP_EQUAL, Action.DROP_EQUAL}
NAMES_ONLY = {Action.LABELDROP, Action.LABELKEEP}


@dataclass(frozen=True, slots=True, kw_only=True)
class RelabelConfig:
    """One rule."""

    source_labels: tuple[str, ...] = setting(items(LABEL_NAME), "Labels whose values are joined and matched.", default=())
    separator: str = setting(TEXT, "What stands between the joined values.", default=";")
    regex: str = setting(REGEX, "RE2 expression that must match the whole text.", default=DEFAULT_REGEX)
    modulus: int = setting(integer(), "Modulus of the hash, for hashmod.", default=0)
    target_label: str = setting(TEXT, "Label that is written.", default="")
    replacement: str = setting(TEXT, "What is written; $1 or ${1} stands for a group of the expression.", default=DEFAULT_REPLACEMENT)
    action: Action = setting(ACTION, "What to do.", default=Action.REPLACE, shown=True)

    def check(self) -> Iterator[tuple[str, str]]:
        if self.action in NEEDS_TARGET and not self.target_label:
            yield "", f'the action "{self.action}" needs target_label'
        if self.action is Action.HASHMOD and not self.modulus:
            yield "", 'the action "hashmod" needs a modulus above 0'
        if self.action is Action.LABELMAP and not self.replacement:
            yield "replacement", 'the action "labelmap" needs a replacement'
        if self.action in NAMES_ONLY and (self.source_labels or self.target_label or self.modulus or self._unlike_default()):
            yield "", f'the action "{self.action}" takes only regex'
        if self.action in (Action.KEEP_EQUAL, Action.DROP_EQUAL) and (
            self.regex != DEFAULT_REGEX or self.modulus or self._unlike_default()
        ):
            yield "", f'the action "{self.action}" takes only source_labels and target_label'

    def _unlike_default(self) -> bool:
        return self.separator != ";" or self.replacement != DEFAULT_REPLACEMENT
