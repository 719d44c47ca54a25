"""Every distinct label of many series as text, which encoders put together series by series.

Axis letters: S series, L label names, P pieces.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promlike.model.blocks import Int32, Int64
from promlike.model.frame import LabelFrame

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelTexts:
    """Piece p, the text of one distinct label, is `blob[borders[p]:borders[p + 1]]`; `pieces int32[S,L]` are the labels of each series.
    Piece 0 is empty and means that a series does not have the label.

    `blob uint8[sum of lengths]`, `borders int64[P+1]`.
    """

    blob: Bytes
    borders: Int64
    pieces: Int32

    def sizes(self) -> Int64:
        """Bytes of all labels of each series, int64[S]."""
        sizes: Int64 = np.diff(self.borders)[self.pieces].sum(axis=1)
        return sizes


def label_texts(labels: LabelFrame, write: Callable[[str], Callable[[str], bytes]]) -> LabelTexts:
    """`write(name)(value)` is the text of one label. Walks distinct values only."""
    pieces = np.zeros(labels.codes.shape, np.int32)
    texts = [b""]
    for column, name in enumerate(labels.names):
        codes, inverse = np.unique(labels.codes[:, column], return_inverse=True)
        numbers = np.zeros(len(codes), np.int32)
        present = np.flatnonzero(codes)
        numbers[present] = np.arange(len(texts), len(texts) + len(present))
        texts += map(write(name), labels.symbols.texts(codes[present]))
        pieces[:, column] = numbers[inverse]
    borders = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=borders[1:])
    return LabelTexts(blob=np.frombuffer(bytearray(b"".join(texts)), np.uint8), borders=borders, pieces=pieces)
