"""SQL that people ask a store, and what it answers: columns, and rows as Arrow batches."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no type information

from promlike.errors import BadRequest

ROWS_AT_ONCE = 20_000
"""Rows of a batch, about: some megabytes."""

_BEFORE = re.compile(r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)
_EXPLAIN = re.compile(r"explain\b\s*(?:\([^()]*\)|analyze\b)?", re.IGNORECASE)
_WORD = re.compile(r"[\s(]*(\w*)")


class TextKind(Enum):
    """What the texts of a column are."""

    PLAIN = auto()
    NUMBER = auto()
    """Numbers that no type of Arrow's can hold; NaN and infinities in the database's words."""
    JSON = auto()
    """JSON, in which the database may have written NaN and infinities as JavaScript does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlColumn:
    """A column of an answer, with its type as the database calls it. `texts`: what it means when the rows have text there."""

    name: str
    type: str
    texts: TextKind = TextKind.PLAIN


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SqlRows:
    """An answer on its way. Batches have the columns in order, under whatever names; types: booleans, integers, floats, decimals, dates,
    timestamps (those with time zone in UTC), and text for everything else.
    """

    columns: Sequence[SqlColumn]
    types: Sequence[pa.DataType]
    batches: AsyncIterator[pa.RecordBatch]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement without what may stand behind it. `body` is what an EXPLAIN is about, else the same as `text`; `word` its first word, in
    small letters.
    """

    text: str
    body: str
    word: str

    @property
    def is_explain(self) -> bool:
        return self.text != self.body


def read_statement(text: str) -> Statement:
    """Look at a statement from outside; the database reads it. Raises BadRequest where no text of a statement has a chance."""
    if "\0" in text:
        raise BadRequest(f"U+0000 at character {text.index(chr(0)) + 1} of the statement")
    bare = text.rstrip("; \t\r\n")
    start = _end(_BEFORE, bare, 0)
    if start == len(bare):
        raise BadRequest("no SQL statement")
    explain = _EXPLAIN.match(bare, start)
    body = bare if explain is None else bare[explain.end() :]
    word = _WORD.match(body, _end(_BEFORE, body, 0))
    return Statement(text=bare, body=body, word=word[1].lower() if word is not None else "")


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return start if found is None else found.end()
