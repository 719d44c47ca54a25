"""Sections: frozen dataclasses whose fields say which key they come from, how it is read, and what it means."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import yaml

from promlike.config.document import Document, Invalid, Node, entries, is_null, kind_of
from promlike.config.values import TEXT, Kind

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a field knows of its YAML key.

    `not_acted_on` is the reason why the key changes nothing, which becomes a warning. `shown` keys are written even when zero or empty.
    An `inline` field has no key of its own: the keys of its section stand directly in the section around it, as in Prometheus. A `table`
    field gathers all keys of a table, as (name, value) pairs.
    """

    name: str
    kind: Kind[Any]
    doc: str
    not_acted_on: str = ""
    shown: bool = False
    inline: type | None = None
    table: Mapping[str, Kind[Any]] | None = None


@runtime_checkable
class Checked(Protocol):
    """A section with conditions between its keys."""

    def check(self) -> Iterator[tuple[str, str]]:
        """The key each problem is about ("" for the whole section) and what is wrong."""
        ...


REQUIRED: Any = MISSING
SHOWN_NAMES = 12
"""Of more known keys than these only the nearest is named."""


def setting(kind: Kind[T], doc: str, *, default: T = REQUIRED, name: str = "", not_acted_on: str = "", shown: bool = False) -> T:
    """A field of a section. Without a default the key is required. `name` where the key differs from the attribute."""
    metadata = {"key": Key(name=name, kind=kind, doc=doc, not_acted_on=not_acted_on, shown=shown)}
    return field(default=default, metadata=metadata)


def inline(cls: type[S]) -> S:
    """A field whose section's keys stand directly in the section around it."""
    metadata = {"key": Key(name="", kind=_section_kind(cls), doc=f"the keys of {cls.__name__}", inline=cls)}
    return field(default_factory=cls, metadata=metadata)


def table(kinds: Mapping[str, Kind[T]], doc: str, *, not_acted_on: str = "") -> tuple[tuple[str, T], ...]:
    """A field that gathers every key of a table that is present."""
    metadata = {"key": Key(name="", kind=TEXT, doc=doc, not_acted_on=not_acted_on, table=kinds)}
    return cast("tuple[tuple[str, T], ...]", field(default=(), metadata=metadata))


def section(cls: type[S]) -> Kind[S]:
    """The kind of a nested section."""
    return _section_kind(cls)


def optional(cls: type[S]) -> Kind[S | None]:
    """The kind of a nested section that may be missing."""
    return cast("Kind[S | None]", _section_kind(cls))


def keys_of(cls: type) -> dict[str, tuple[Field[Any], Key]]:
    """Field and key by YAML name; fields without a key of their own stand under the name of their attribute with a dot in front."""
    found = {}
    for entry in fields(cls):
        if "key" in entry.metadata:
            known: Key = entry.metadata["key"]
            found["." + entry.name if known.inline or known.table else known.name or entry.name] = (entry, known)
    return found


def known_names(cls: type) -> list[str]:
    """Every YAML name that may stand in a section, those of inline sections included."""
    names = []
    for name, (_, known) in keys_of(cls).items():
        names += known_names(known.inline) if known.inline else list(known.table) if known.table else [name]
    return names


def read_section(cls: type[S], node: yaml.MappingNode, document: Document, path: str) -> S:
    """Build a section; a field `where` without a key gets its file and line.

    Everything wrong inside joins the document's problems; wrong keys keep their defaults, so that reading goes on.

    Raise Invalid (its reasons already reported) when a required key is missing or wrong, since there is nothing to build then.
    """
    given = {str(name.value): (name, value) for name, value in entries(node, document, path)}
    known = known_names(cls)
    for name, (label, _) in given.items():
        if name not in known:
            unknown_key(label, known, document, path)
    return _build(cls, node, given, document, path)


def _build(cls: type[S], node: Node, given: Mapping[str, tuple[yaml.ScalarNode, Node]], document: Document, path: str) -> S:
    values: dict[str, object] = {}
    missing = []
    wrong = len(document.problems)
    for name, (entry, known) in keys_of(cls).items():
        if known.inline:
            values[entry.name] = _build(known.inline, node, given, document, path)
        elif known.table:
            values[entry.name] = tuple(_read_table(known, known.table, given, document, path))
        elif name in given:
            values.update((entry.name, value) for value in _read_key(name, known, known.kind, given[name], document, path, entry.default))
        if entry.name not in values and entry.default is MISSING and entry.default_factory is MISSING:
            missing.append(name)
    for name in missing:
        if name not in given:
            document.problem(node, path, f'the key "{name}" is missing')
    if missing:
        raise Invalid(node)
    if any(entry.name == "where" for entry in fields(cast(Any, cls))):
        values["where"] = document.where(node)
    built = cls(**values)
    if isinstance(built, Checked) and len(document.problems) == wrong:
        for name, message in built.check():
            document.problem(given[name][0] if name in given else node, f"{path}.{name}".strip("."), message)
    return built


def _read_key(
    name: str, known: Key, kind: Kind[Any], pair: tuple[yaml.ScalarNode, Node], document: Document, path: str, default: object = None
) -> Iterator[object]:
    """The value, or nothing when it is wrong or empty; an empty key means the default, as in Prometheus."""
    label, value = pair
    full = f"{path}.{name}".strip(".")
    if is_null(value):
        return
    try:
        read = kind.read(value, document, full)
    except Invalid as wrong:
        document.reject(wrong, full)
        return
    if known.not_acted_on and read and read != default:
        document.warn_once(label, name, known.not_acted_on)
    yield read


def _read_table(
    known: Key, kinds: Mapping[str, Kind[Any]], given: Mapping[str, tuple[yaml.ScalarNode, Node]], document: Document, path: str
) -> Iterator[tuple[str, object]]:
    for name in given:
        if name in kinds:
            for value in _read_key(name, known, kinds[name], given[name], document, path):
                yield name, value


def unknown_key(label: yaml.ScalarNode, known: Collection[str], document: Document, path: str) -> None:
    """Report a key nobody knows, with the nearest known name."""
    near = get_close_matches(label.value, known, n=1, cutoff=0.6)
    if near:
        hint = f'did you mean "{near[0]}"?'
    elif len(known) <= SHOWN_NAMES:
        hint = f"known here: {', '.join(sorted(known))}"
    else:
        hint = f'the nearest known name is "{get_close_matches(label.value, known, n=1, cutoff=0.0)[0]}"'
    document.problem(label, path, f'unknown key "{label.value}"; {hint}')


def _section_kind(cls: type[S]) -> Kind[S]:
    def read(node: Node, document: Document, path: str) -> S:
        if not isinstance(node, yaml.MappingNode):
            raise Invalid(node, f"a mapping of keys is needed here, not {kind_of(node)}")
        return read_section(cls, node, document, path)

    return Kind(read=read, write=write_section)


def write_section(built: object) -> dict[str, object]:
    """The section as plain data for YAML: secrets masked, defaults that are zero or empty left out unless always shown."""
    out: dict[str, object] = {}
    for name, (entry, known) in keys_of(type(built)).items():
        value = getattr(built, entry.name)
        if known.inline:
            out.update(write_section(value))
        elif known.table:
            out.update((key, known.table[key].write(inner)) for key, inner in value)
        elif known.shown or value or value != entry.default:
            written = known.kind.write(value)
            if written != {}:
                out[name] = written
    return out
