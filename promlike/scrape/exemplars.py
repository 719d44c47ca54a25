"""The exemplars of one target. A target shows an exemplar until it has a newer one, so most of them were there in the scrape before."""

from dataclasses import dataclass, field

import numpy as np

from promlike.errors import SampleRejected
from promlike.model.blocks import Int32, Int64
from promlike.model.exemplars import Exemplars, label_text
from promlike.scrape.exemplar_text import parse_exemplar
from promlike.scrape.exposition import Exposition

Parsed = tuple[str, float, int | None]
"""Labels, value, and time where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadExemplars:
    """X exemplars of one answer: their texts, what those say, and which samples they belong to, int64[X]; and why others were refused."""

    texts: list[bytes]
    parsed: list[Parsed]
    samples: Int64
    refusals: list[SampleRejected]


@dataclass(slots=True, eq=False)
class TargetExemplars:
    """Remembers the exemplars of the last answer."""

    _parsed: dict[bytes, Parsed | SampleRejected] = field(default_factory=dict)
    _shown: set[tuple[int, bytes]] = field(default_factory=set)

    def read(self, found: Exposition) -> ReadExemplars:
        """Read those of an answer. Raise ExpositionError naming the first malformed one; nothing is remembered of the answer then."""
        before: dict[bytes, Parsed | SampleRejected] = {}
        texts, parsed, samples, refusals = [], [], [], []
        for start, end, sample in found.exemplars.tolist():
            text = found.text(start, end)
            known = self._parsed.get(text) or before.get(text)
            if known is None:
                try:
                    known = _parse(text)
                except ValueError as error:
                    raise found.error(start, str(error), sample) from error
            before[text] = known
            if isinstance(known, SampleRejected):
                refusals.append(known)
                continue
            texts.append(text)
            parsed.append(known)
            samples.append(sample)
        self._parsed = before
        return ReadExemplars(texts=texts, parsed=parsed, samples=np.array(samples, np.int64), refusals=refusals)

    def fresh(self, read: ReadExemplars, refs: Int32, sample_ms: Int64) -> Exemplars:
        """Those that the last answer did not show, of the series `refs int32[X]` (negative: of none); those without a time have that of
        their sample, int64[X].
        """
        shown: set[tuple[int, bytes]] = set()
        rows = []
        for text, (labels, value, time_ms), ref, own_ms in zip(read.texts, read.parsed, refs.tolist(), sample_ms.tolist(), strict=True):
            if ref < 0:
                continue
            shown.add((ref, text))
            if (ref, text) not in self._shown:
                rows.append((ref, own_ms if time_ms is None else time_ms, value, labels))
        self._shown = shown
        return Exemplars.of(rows)

    def forget(self) -> None:
        """The last ones could not be stored: what is still shown next time counts as new."""
        self._shown = set()


def _parse(text: bytes) -> Parsed | SampleRejected:
    pairs, value, time_ms = parse_exemplar(text)
    try:
        return label_text(pairs), value, time_ms
    except SampleRejected as refusal:
        return refusal
