"""A YAML file as a tree of nodes that know their lines, and the list of what is wrong in it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from promlike.errors import ConfigError

Node = yaml.Node


class Invalid(Exception):
    """One value of the file is wrong; carries the node, whose line the message will name.

    Without a message the reasons stand among the document's problems already.
    """

    def __init__(self, node: Node, message: str = "") -> None:
        super().__init__(message)
        self.node = node
        self.message = message


@dataclass(slots=True, kw_only=True)
class Document:
    """A file being read: where relative paths start, the environment for `${VAR}`, and the problems and warnings found so far."""

    file: str
    base_dir: Path
    environ: Mapping[str, str]
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _warned: set[str] = field(default_factory=set)

    def where(self, node: Node) -> str:
        return f"{self.file}:{node.start_mark.line + 1}"

    def problem(self, node: Node, path: str, message: str) -> None:
        self.problems.append(f"{self.where(node)}: {path}: {message}" if path else f"{self.where(node)}: {message}")

    def warn_once(self, node: Node, key: str, message: str) -> None:
        """A warning about a key; further places of the same key stay quiet."""
        if key not in self._warned:
            self._warned.add(key)
            self.warnings.append(f"{self.where(node)}: {key}: {message}")

    def reject(self, wrong: Invalid, path: str) -> None:
        """Turn a wrong value into a problem, unless its problems were reported where they stood."""
        if wrong.message:
            self.problem(wrong.node, path, wrong.message)

    def raise_problems(self) -> None:
        """Raise ConfigError with all problems, each file's in the order of its lines."""
        if self.problems:
            raise ConfigError(in_order(self.problems))


_PLACE = re.compile(r"(.*?):(\d+): ")


def in_order(messages: list[str]) -> list[str]:
    """Messages that start with `file:line: `, by file and line."""

    def place(message: str) -> tuple[str, int]:
        match = _PLACE.match(message)
        return (match[1], int(match[2])) if match else ("", 0)

    return sorted(messages, key=place)


def compose(text: str, document: Document) -> yaml.MappingNode | None:
    """The root mapping of a YAML text, None when the text is empty. Raise ConfigError where it is no YAML."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        detail = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError([f"{document.file}:{line}: not valid YAML: {detail}"]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{document.file}:1: not valid YAML: {error}"]) from error
    if root is None or is_null(root):
        return None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError([f"{document.where(root)}: a mapping of keys is needed here, not {kind_of(root)}"])
    return root


def entries(node: yaml.MappingNode, document: Document, path: str) -> Iterator[tuple[yaml.ScalarNode, Node]]:
    """The keys and values of a mapping, with `<<` merged in; keys that are no text or stand twice become problems."""
    _merge(node)
    seen: dict[str, Node] = {}
    for label, value in node.value:
        if not isinstance(label, yaml.ScalarNode):
            document.problem(label, path, f"a key must be text, not {kind_of(label)}")
        elif label.value in seen:
            first = seen[label.value].start_mark.line + 1
            document.problem(label, path, f'"{label.value}" stands here a second time; the first is in line {first}')
        else:
            seen[label.value] = label
            yield label, value


def _merge(node: yaml.MappingNode) -> None:
    """Replace `<<: *other` by the entries of the other mapping that this one does not have itself."""
    own = [pair for pair in node.value if pair[0].tag != "tag:yaml.org,2002:merge"]
    if len(own) == len(node.value):
        return
    names = {label.value for label, _ in own}
    yaml.SafeLoader("").flatten_mapping(node)
    merged = node.value[: len(node.value) - len(own)]
    # What is merged from several mappings: PyYAML puts the mapping that wins last.
    inherited = {label.value: (label, value) for label, value in merged if label.value not in names}
    node.value = [*inherited.values(), *own]


def is_null(node: Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def kind_of(node: Node) -> str:
    """What a person would call this node."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return f'"{node.value}"' if not is_null(node) else "nothing"
