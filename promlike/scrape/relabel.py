"""Relabelling: rules that rewrite, keep or drop a set of labels. Applied once to a target and once to a new series, never per sample."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import md5
from typing import Any

from promlike.config.relabel import Action, RelabelConfig
from promlike.model.matchers import compile_regex

LabelSet = dict[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One rule, its expression compiled and its templates taken apart."""

    config: RelabelConfig
    regex: Any
    target: "Template"
    replacement: "Template"

    @classmethod
    def of(cls, config: RelabelConfig) -> "Rule":
        regex = compile_regex(config.regex)
        return cls(config, regex, Template.of(config.target_label, regex), Template.of(config.replacement, regex))


def compile_rules(configs: Iterable[RelabelConfig]) -> tuple[Rule, ...]:
    return tuple(Rule.of(config) for config in configs)


def relabel(labels: LabelSet, rules: Sequence[Rule]) -> bool:
    """Apply the rules in order, in place; False when one of them drops the whole set. Setting "" removes a label."""
    return all(_ACTIONS[rule.config.action](labels, rule) for rule in rules)


def _source(labels: LabelSet, rule: Rule) -> str:
    names = rule.config.source_labels
    if len(names) == 1:
        return labels.get(names[0], "")
    return rule.config.separator.join(labels.get(name, "") for name in names)


def _set(labels: LabelSet, name: str, value: str) -> None:
    if value:
        labels[name] = value
    else:
        labels.pop(name, None)


def _replace(labels: LabelSet, rule: Rule) -> bool:
    match = rule.regex.fullmatch(_source(labels, rule))
    if match is not None:
        name = rule.target.expand(match)
        if name:
            _set(labels, name, rule.replacement.expand(match))
    return True


def _keep(labels: LabelSet, rule: Rule) -> bool:
    return rule.regex.fullmatch(_source(labels, rule)) is not None


def _drop(labels: LabelSet, rule: Rule) -> bool:
    return not _keep(labels, rule)


def _keep_equal(labels: LabelSet, rule: Rule) -> bool:
    return _source(labels, rule) == labels.get(rule.config.target_label, "")


def _drop_equal(labels: LabelSet, rule: Rule) -> bool:
    return not _keep_equal(labels, rule)


def _hashmod(labels: LabelSet, rule: Rule) -> bool:
    # Prometheus takes the last eight of the sixteen bytes.
    digest = md5(_source(labels, rule).encode(), usedforsecurity=False).digest()
    labels[rule.config.target_label] = str(int.from_bytes(digest[8:], "big") % rule.config.modulus)
    return True


def _lowercase(labels: LabelSet, rule: Rule) -> bool:
    _set(labels, rule.config.target_label, _source(labels, rule).lower())
    return True


def _uppercase(labels: LabelSet, rule: Rule) -> bool:
    _set(labels, rule.config.target_label, _source(labels, rule).upper())
    return True


def _labelmap(labels: LabelSet, rule: Rule) -> bool:
    for name, value in list(labels.items()):
        match = rule.regex.fullmatch(name)
        if match is not None and (renamed := rule.replacement.expand(match)):
            labels[renamed] = value
    return True


def _labeldrop(labels: LabelSet, rule: Rule) -> bool:
    for name in [name for name in labels if rule.regex.fullmatch(name) is not None]:
        del labels[name]
    return True


def _labelkeep(labels: LabelSet, rule: Rule) -> bool:
    for name in [name for name in labels if rule.regex.fullmatch(name) is None]:
        del labels[name]
    return True


_ACTIONS: dict[Action, Callable[[LabelSet, Rule], bool]] = {
    Action.REPLACE: _replace,
    Action.KEEP: _keep,
    Action.DROP: _drop,
    Action.KEEP_EQUAL: _keep_equal,
    Action.DROP_EQUAL: _drop_equal,
    Action.HASHMOD: _hashmod,
    Action.LABELMAP: _labelmap,
    Action.LABELDROP: _labeldrop,
    Action.LABELKEEP: _labelkeep,
    Action.LOWERCASE: _lowercase,
    Action.UPPERCASE: _uppercase,
}

_REFERENCE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})")


@dataclass(frozen=True, slots=True)
class Template:
    """Text with `$1`, `${1}` or `${name}` in it, as Go's regexp expands it; `$$` is a dollar sign, any other `$` stands for itself."""

    parts: tuple[str | int, ...]
    """Literal strings and numbers of groups."""

    @classmethod
    def of(cls, text: str, regex: Any) -> "Template":
        """Take the text apart; groups that the expression does not have stand for nothing."""
        parts: list[str | int] = []
        at = 0
        for match in _REFERENCE.finditer(text):
            parts += [text[at : match.start()], *cls._group(match[1] or match[2], regex)]
            at = match.end()
        parts.append(text[at:])
        return cls(tuple(part for part in parts if part != ""))

    @staticmethod
    def _group(name: str | None, regex: Any) -> list[str | int]:
        if name is None:
            return ["$"]
        number = int(name) if name.isdecimal() else regex.groupindex.get(name, -1)
        return [number] if 0 <= number <= regex.groups else []

    def expand(self, match: Any) -> str:
        """The text with what the groups matched; a group that took no part is empty."""
        return "".join([(match.group(part) or "") if isinstance(part, int) else part for part in self.parts])
