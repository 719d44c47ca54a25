"""Names and values that fit search terms, with scores from 0 to 1. Axis letters: K texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import JaroWinkler

from promlike.model.blocks import Float64, Int64
from promlike.model.label_texts import Bytes
from promlike.search import kernels

_SEPARATOR = "\0"


class FuzzyAlgorithm(StrEnum):
    """What counts as alike beside texts that contain the term."""

    SUBSEQUENCE = "subsequence"
    JARO_WINKLER = "jarowinkler"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTerms:
    """A text fits when it fits any of the terms; without terms every text does. `threshold` is from 0 to 1."""

    terms: tuple[str, ...]
    algorithm: FuzzyAlgorithm = FuzzyAlgorithm.SUBSEQUENCE
    threshold: float = 0.0
    case_sensitive: bool = True


def score(texts: Sequence[str], search: SearchTerms) -> Float64:
    """How well K texts fit, float64[K]; 0 where one does not. Exactly the term is 1, containing it at least 0.7, being alike less."""
    if not search.terms or not texts:
        return np.ones(len(texts))
    folded = texts if search.case_sensitive else _lower(texts)
    terms = search.terms if search.case_sensitive else tuple(term.lower() for term in search.terms)
    blob, borders = _joined(folded)
    scores = np.zeros(len(texts))
    subsequences = search.algorithm is FuzzyAlgorithm.SUBSEQUENCE
    for term in terms:
        data = np.frombuffer(bytearray(term.encode()), np.uint8)
        kernels.score_texts(blob, borders, data, subsequences, search.threshold, scores)
    if search.algorithm is FuzzyAlgorithm.JARO_WINKLER:
        alike = process.cdist(terms, folded, scorer=JaroWinkler.normalized_similarity, score_cutoff=search.threshold, dtype=np.float64)
        np.maximum(scores, kernels.WITHIN * alike.max(axis=0), out=scores)
    return scores


def _lower(texts: Sequence[str]) -> list[str]:
    return [text.lower() for text in texts]


def _joined(texts: Sequence[str]) -> tuple[Bytes, Int64]:
    """All texts as bytes, uint8[…], and their borders int64[K+1]; each ends with a byte that is in no term."""
    data = _SEPARATOR.join(texts)
    if data.count(_SEPARATOR) >= len(texts):
        data = _SEPARATOR.join([text.replace(_SEPARATOR, " ") for text in texts])
    blob = np.frombuffer(bytearray(data.encode()), np.uint8)
    return np.delete(blob, ends := np.flatnonzero(blob == 0)), np.concatenate([[0], ends - np.arange(len(ends)), [len(blob) - len(ends)]])
