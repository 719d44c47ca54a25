"""Exemplars: single observations beside the samples of a series, each with labels of its own such as a trace id."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from promlike.errors import RejectReason, SampleRejected
from promlike.model.blocks import Float64, Int32, Int64
from promlike.model.labels import quote

MOST_CHARACTERS = 128
"""How long names and values of an exemplar's labels may be together, in characters, as OpenMetrics says."""

ExemplarIdentity = tuple[int, int, int, str]
"""What makes two exemplars the same: ref, time, the bits of the value, labels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exemplars:
    """X exemplars: `refs int32[X]` of their series, `ts_ms int64[X]`, `values float64[X]`, X label sets, each as `label_text` writes it."""

    refs: Int32
    ts_ms: Int64
    values: Float64
    labels: Sequence[str]

    def __len__(self) -> int:
        return len(self.refs)

    def take(self, rows: NDArray[Any]) -> "Exemplars":
        """Some of them, by row numbers or a mask."""
        numbers = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        labels = [self.labels[row] for row in numbers.tolist()]
        return Exemplars(refs=self.refs[rows], ts_ms=self.ts_ms[rows], values=self.values[rows], labels=labels)

    def identities(self) -> Iterator[ExemplarIdentity]:
        """What tells each from the others, in order."""
        return zip(self.refs.tolist(), self.ts_ms.tolist(), self.values.view(np.int64).tolist(), self.labels, strict=True)

    @classmethod
    def of(cls, rows: Sequence[tuple[int, int, float, str]]) -> "Exemplars":
        """From rows of ref, time, value and labels."""
        return cls(
            refs=np.array([row[0] for row in rows], np.int32),
            ts_ms=np.array([row[1] for row in rows], np.int64),
            values=np.array([row[2] for row in rows], np.float64),
            labels=[row[3] for row in rows],
        )

    @classmethod
    def joined(cls, parts: Sequence["Exemplars"]) -> "Exemplars":
        if len(parts) == 1:
            return parts[0]
        return cls(
            refs=np.concatenate([np.empty(0, np.int32), *(part.refs for part in parts)]),
            ts_ms=np.concatenate([np.empty(0, np.int64), *(part.ts_ms for part in parts)]),
            values=np.concatenate([np.empty(0), *(part.values for part in parts)]),
            labels=[text for part in parts for text in part.labels],
        )

    @classmethod
    def empty(cls) -> "Exemplars":
        return cls.joined([])


def label_text(pairs: Iterable[tuple[str, str]]) -> str:
    """The labels of an exemplar as a JSON object, sorted by name, without those that have no value.

    Raise SampleRejected when a name is empty or stands twice, or when they are longer than OpenMetrics allows.
    """
    kept = sorted((name, value) for name, value in pairs if value)
    for i, (name, _) in enumerate(kept):
        if not name:
            raise SampleRejected(RejectReason.INVALID_LABEL_NAME, "an exemplar's label has no name")
        if i and name == kept[i - 1][0]:
            raise SampleRejected(RejectReason.DUPLICATE_LABEL_NAME, f"an exemplar has the label {quote(name)} twice")
    length = sum(len(name) + len(value) for name, value in kept)
    if length > MOST_CHARACTERS:
        text = f"the labels of an exemplar have {length} characters (limit {MOST_CHARACTERS}), the first is {quote(kept[0][0][:50])}"
        raise SampleRejected(RejectReason.EXEMPLAR_LABELS_TOO_LONG, text)
    return orjson.dumps(dict(kept)).decode()
