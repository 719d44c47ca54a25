"""What flushes changed in a store, as every process that reads from it is told. Times are in (start_ms, end_ms], in milliseconds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

FOREVER_MS = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChange:
    """Samples of a metric (None: of any) in this range of time came, went, or got other values."""

    metric: str | None
    start_ms: int
    end_ms: int


ANYTHING = StoredChange(metric=None, start_ms=-FOREVER_MS, end_ms=FOREVER_MS)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushRecord:
    """What one flush changed. Numbers count the flushes of all writers; `own` ones are of the writer that asks.

    `token` is random: a database that was restored to an earlier time counts on with the same numbers, but with other tokens.
    """

    number: int
    token: int
    own: bool
    changes: tuple[StoredChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushNews:
    """The flushes after some number, up to `last`, in order. What a number without a record changed is not known.

    `disputes`, those that came with these flushes: where writers may see other samples than the store has, because each shows what it has
    in memory while another overwrote or deleted it there.
    """

    last: int
    records: tuple[FlushRecord, ...] = ()
    disputes: tuple[StoredChange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreView:
    """How far what a process sees is what the store has, disputes aside: after flush `flush`, before `unflushed_from_ms`.

    Not at all while it `is_changing`. Of what flushes of others changed since then, a process sees some, depending on what it reads.
    """

    flush: int
    unflushed_from_ms: int
    is_changing: bool = False


def encode_changes(changes: Sequence[StoredChange]) -> str:
    """As ASCII, which every database takes, whatever a name holds."""
    return json.dumps([[change.metric, change.start_ms, change.end_ms] for change in changes], separators=(",", ":"))


def decode_changes(text: str) -> tuple[StoredChange, ...]:
    return tuple(StoredChange(metric=metric, start_ms=start, end_ms=end) for metric, start, end in json.loads(text))
