"""Columns to and from PostgreSQL's binary COPY format."""

import numpy as np
import pytest

from promlike.errors import StorageError
from promlike.model.blocks import STALE_NAN
from promlike.storage.timescale.copy import HEADER, SAMPLE, TRAILER, decode_columns, encode_columns


def test_rows_survive_encoding_bit_for_bit() -> None:
    types = ("timestamptz", "int4", "float8", "int8", "bool")
    columns = (
        np.array([-5, 4_102_444_800_123], np.int64),
        np.array([1, 2_000_000_000], np.int32),
        np.array([STALE_NAN, -0.0]),
        np.array([-(2**63), 7], np.int64),
        np.array([True, False]),
    )
    found = decode_columns(types, encode_columns(types, *columns))
    assert [column.dtype for column in found] == [column.dtype for column in columns]
    assert [column.tobytes() for column in found] == [column.tobytes() for column in columns]


@pytest.mark.parametrize("stream", [b"", b"PGCOPY", HEADER + b"\0" * 5 + TRAILER, HEADER + b"\0" * 34 + TRAILER])
def test_other_streams_are_refused(stream: bytes) -> None:
    with pytest.raises(StorageError):
        decode_columns(SAMPLE, stream)
