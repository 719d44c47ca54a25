"""`label_replace` and `label_join`: computed once for every distinct combination of label values, never per series."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np

from promlike.errors import BadRequest, QueryError
from promlike.model.blocks import Bool, Int32
from promlike.model.frame import group_rows, intern_all
from promlike.model.labels import METRIC_NAME, valid_utf8
from promlike.model.matchers import compile_regex
from promlike.promql.calls import arguments
from promlike.promql.context import CallContext, Evaluator
from promlike.promql.vector import Value, VectorValue


def label_replace(context: CallContext, args: list[Value]) -> VectorValue:
    """`label_replace(v, dst, replacement, src, regex)`: set dst where the regex matches the whole of src."""
    vector = arguments.vector(args, 0)
    target, replacement, source, pattern = arguments.strings(args, 1)
    replacement = valid_utf8(replacement)
    try:
        regex = compile_regex(pattern)
    except (BadRequest, UnicodeEncodeError) as error:  # a pattern may hold bytes that are no UTF-8, as surrogates
        raise QueryError(f"invalid regular expression in label_replace(): {valid_utf8(pattern)}") from error
    if not _is_label_name(target):
        raise QueryError(f"invalid destination label name in label_replace(): {valid_utf8(target)}")
    template = Template.parse(replacement, dict(regex.groupindex))

    column = vector.labels.column(source)
    distinct, inverse = np.unique(column, return_inverse=True)
    matches = [regex.fullmatch(text) for text in vector.labels.symbols.texts(distinct)]
    matched = np.fromiter((match is not None for match in matches), np.bool_, len(matches))[inverse]
    texts = ("" if match is None else template.expand(match.group) for match in matches)
    codes = np.where(matched, intern_all(context.symbols, texts)[inverse], vector.labels.column(target)).astype(np.int32)
    drop_name = vector.drop_name
    if drop_name is not None and target == METRIC_NAME:
        drop_name = drop_name & ~matched
    return _relabelled(vector, target, codes, drop_name)


def label_join(context: CallContext, args: list[Value]) -> VectorValue:
    """`label_join(v, dst, separator, src…)`: set dst to the values of the sources, joined."""
    vector = arguments.vector(args, 0)
    target, separator, *sources = arguments.strings(args, 1)
    separator = valid_utf8(separator)
    for source in sources:
        if not _is_label_name(source):
            raise QueryError(f"invalid source label name in label_join(): {valid_utf8(source)}")
    if not _is_label_name(target):
        raise QueryError(f"invalid destination label name in label_join(): {valid_utf8(target)}")
    rows = np.column_stack([vector.labels.column(source) for source in sources]) if sources else np.zeros((len(vector), 1), np.int32)
    groups, first = group_rows(np.ascontiguousarray(rows))
    text = context.symbols.text
    texts = (separator.join(text(code) for code in row[: len(sources)]) for row in rows[first].tolist())
    codes = intern_all(context.symbols, texts)[groups]
    drop_name = vector.drop_name
    if drop_name is not None and target == METRIC_NAME:
        drop_name = np.zeros(len(vector), np.bool_)
    return _relabelled(vector, target, codes, drop_name)


def _relabelled(vector: VectorValue, target: str, codes: Int32, drop_name: Bool | None) -> VectorValue:
    """The vector with new values of one label."""
    return VectorValue(labels=vector.labels.with_column(target, codes), block=vector.block, drop_name=drop_name)


def _is_label_name(name: str) -> bool:
    """Any UTF-8 text but the empty one."""
    return name != "" and not any("\ud800" <= char <= "\udfff" for char in name)


@dataclass(frozen=True, slots=True)
class Template:
    """A replacement in Go's notation: `$1`, `${1}`, `$name`, `${name}`, `$$`; a name is as long as letters, digits and `_` go.

    `parts` alternate text (str) and numbers of groups (int); groups that do not exist have been left out.
    """

    parts: tuple[str | int, ...]

    @classmethod
    def parse(cls, text: str, names: dict[str, int]) -> "Template":
        parts: list[str | int] = []
        rest = text
        while True:
            before, dollar, rest = rest.partition("$")
            parts.append(before)
            if not dollar:
                return cls(tuple(parts))
            if rest.startswith("$"):
                parts.append("$")
                rest = rest[1:]
                continue
            name, length = _name_at_start(rest)
            if not length:
                parts.append("$")  # not a reference: the dollar stands for itself
                continue
            rest = rest[length:]
            number = _group_number(name)
            group = names.get(name) if number is None else number
            if group is not None:
                parts.append(group)

    def expand(self, group: Callable[[int], str | None]) -> str:
        """The text for one match; `group(n)` raises IndexError where the pattern has no such group."""
        return "".join(part if isinstance(part, str) else _group_text(group, part) for part in self.parts)


def _group_text(group: Callable[[int], str | None], number: int) -> str:
    try:
        return group(number) or ""
    except IndexError:
        return ""


def _name_at_start(text: str) -> tuple[str, int]:
    """The name that stands at the start, in braces or without, and how many characters it takes; 0 when there is none."""
    braced = text.startswith("{")
    body = text[1:] if braced else text
    length = next((i for i, char in enumerate(body) if not (char.isalpha() or char.isdecimal() or char == "_")), len(body))
    name = "".join(islice(body, length))
    if not name or (braced and not body.startswith("}", length)):
        return "", 0
    return name, length + 2 * braced


def _group_number(name: str) -> int | None:
    """The number a name spells, without leading zeros."""
    if not (name.isascii() and name.isdigit()) or (name[0] == "0" and len(name) > 1) or len(name) > 8:
        return None
    return int(name)


EVALUATORS: dict[str, Evaluator] = {"label_replace": label_replace, "label_join": label_join}
