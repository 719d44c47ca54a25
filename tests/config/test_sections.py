"""Every key is documented, and everything that can be written can be read."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import pytest

from promlike.config.discovery import OTHER_DISCOVERIES
from promlike.config.root import Config
from promlike.config.section import keys_of


def sections(cls: type, seen: set[type] | None = None) -> Iterator[type]:
    """A section and all sections inside it."""
    seen = set() if seen is None else seen
    if cls in seen:
        return
    seen.add(cls)
    yield cls
    for hint in get_type_hints(cls).values():
        for inner in _classes(hint):
            if is_dataclass(inner) and any("key" in entry.metadata for entry in fields(inner)):
                yield from sections(inner, seen)


def _classes(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and not get_args(hint):
        yield hint
    for argument in get_args(hint):
        yield from _classes(argument)


SECTIONS = list(sections(Config))


def test_all_sections_are_found() -> None:
    names = {cls.__name__ for cls in SECTIONS}
    assert {"GlobalConfig", "ScrapeConfig", "HTTPClientConfig", "TLSConfig", "RelabelConfig", "StaticConfig", "QueueConfig"} <= names
    assert len(SECTIONS) > 25


@pytest.mark.parametrize("cls", SECTIONS, ids=lambda cls: cls.__name__)
def test_every_section_and_every_key_is_documented(cls: type) -> None:
    assert cls.__doc__
    assert not cls.__doc__.startswith(cls.__name__ + "("), "the docstring is the one dataclasses write"
    for name, (_, known) in keys_of(cls).items():
        assert known.doc, name
        assert known.inline or (known.doc[0].isupper() and known.doc.endswith(".")), (name, known.doc)


@pytest.mark.parametrize("cls", SECTIONS, ids=lambda cls: cls.__name__)
def test_sections_are_frozen_and_hashable(cls: type) -> None:
    parameters = getattr(cls, "__dataclass_params__")  # noqa: B009  # not known to type checkers
    assert parameters.frozen
    assert "__slots__" in vars(cls)


def test_every_service_discovery_of_prometheus_is_known() -> None:
    assert len(OTHER_DISCOVERIES) > 30
    assert all("refresh_interval" in keys or name in NO_REFRESH for name, keys in OTHER_DISCOVERIES.items())


NO_REFRESH = {"kubernetes_sd_configs", "nerve_sd_configs", "serverset_sd_configs"}
