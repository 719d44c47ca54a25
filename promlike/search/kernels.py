"""How well texts fit a term. Axis letters: K texts."""

import numpy as np

from promlike.kernel import inlined, kernel
from promlike.model.blocks import Float64, Int64
from promlike.model.label_texts import Bytes

WITHIN, AT_WORD, AT_START = 0.7, 0.8, 0.9
"""The least score of a text that contains the term, by where; it grows by up to 0.1 with the share of the text that the term is."""


@kernel("(u1[::1], i8[::1], u1[::1], b1, f8, f8[::1])")
def score_texts(blob: Bytes, borders: Int64, term: Bytes, subsequences: bool, threshold: float, scores: Float64) -> None:
    """Raise `scores float64[K]` to what the texts `blob[borders[k]:borders[k + 1]]` get for a term; 0 where a text does not fit.

    A text that contains the term gets 0.7 or more, see above; one with all its bytes in order (with `subsequences`) 0.7 times the length
    of the term over that of the shortest piece of text found to have them, if that share is at least `threshold`.
    """
    for k in range(len(borders) - 1):
        start, end = borders[k], borders[k + 1]
        score = _containing(blob, start, end, term)
        if score == 0.0 and subsequences:
            share = _density(blob, start, end, term)
            if share > 0.0 and share >= threshold:
                score = WITHIN * share
        scores[k] = max(scores[k], score)


@inlined
def _containing(blob: Bytes, start: int, end: int, term: Bytes) -> float:
    """The score of the best place where the text contains the term, 0 without one."""
    size = len(term)
    if size == 0:
        return 1.0
    best = 0.0
    for at in range(start, end - size + 1):
        if blob[at] != term[0]:
            continue
        same = 1
        while same < size and blob[at + same] == term[same]:
            same += 1
        if same == size:
            share = 0.1 * size / (end - start)
            if at == start:
                return AT_START + share
            best = max(best, (WITHIN if _is_letter(blob[at - 1]) else AT_WORD) + share)
    return best


@inlined
def _is_letter(byte: np.uint8) -> bool:
    """Letters and digits, and everything beyond ASCII."""
    return bool(48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122 or byte >= 128)


@inlined
def _density(blob: Bytes, start: int, end: int, term: Bytes) -> float:
    """Length of the term over that of a piece of text with all its bytes in order: the first to end, begun as late as it can be."""
    size = len(term)
    found = 0
    at = start
    while at < end and found < size:
        if blob[at] == term[found]:
            found += 1
        at += 1
    if found < size:
        return 0.0
    last = at
    while found > 0:
        at -= 1
        if blob[at] == term[found - 1]:
            found -= 1
    return size / (last - at)
