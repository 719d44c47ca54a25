"""Conditions on names and file patterns that several sections share."""

import re

from promlike.config.values import TEXT, Kind, checked
from promlike.errors import BadRequest
from promlike.model.matchers import compile_regex

LEGACY_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
LEGACY_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)


def _label_name(text: str) -> str:
    return "" if text else "a label name cannot be empty"


def _regex(text: str) -> str:
    try:
        compile_regex(text)
    except BadRequest as error:
        return str(error)
    return ""


def _glob(text: str) -> str:
    return "" if text.count("[") <= text.count("]") else f'"{text}" is not a file pattern: a "[" is not closed'


LABEL_NAME: Kind[str] = checked(TEXT, _label_name)
REGEX: Kind[str] = checked(TEXT, _regex)
GLOB: Kind[str] = checked(TEXT, _glob)
