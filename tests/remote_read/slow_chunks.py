"""Streamed answers and XOR chunks read bit by bit: the slow, obvious twin of the kernels, and the reader of real servers' answers."""

import struct
from collections.abc import Iterator

from promlike.remote_read.pb.remote_read_pb2 import ChunkedReadResponse

Row = tuple[int, int]
"""Time in milliseconds and the bits of a value."""


def crc32c(data: bytes) -> int:
    """Bit by bit, with the reflected polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def frames(body: bytes) -> Iterator[ChunkedReadResponse]:
    """The messages of a streamed answer, their checksums checked."""
    at = 0
    while at < len(body):
        size = shift = 0
        while True:
            byte = body[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        data = body[at + 4 : at + 4 + size]
        assert len(data) == size
        assert struct.unpack(">I", body[at : at + 4])[0] == crc32c(data)
        at += 4 + size
        yield ChunkedReadResponse.FromString(data)


class _Reader:
    """Bits of a chunk, the highest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._at = 0

    def bits(self, width: int) -> int:
        taken = self._bits[self._at : self._at + width]
        assert len(taken) == width
        self._at += width
        return int(taken, 2) if taken else 0

    def ones(self, most: int) -> int:
        """How many ones stand before a zero, which is read too unless there are `most` of them."""
        count = 0
        while count < most and self.bits(1):
            count += 1
        return count

    def uvarint(self) -> int:
        number = shift = 0
        while True:
            byte = self.bits(8)
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def rest_is_padding(self) -> bool:
        return len(self._bits) - self._at < 8 and "1" not in self._bits[self._at :]


def signed(number: int, width: int) -> int:
    """The widths leave out the lowest number and have one more at the top."""
    return number - (1 << width) if number > 1 << (width - 1) else number


def rows(data: bytes, *, growing: bool = False) -> list[Row]:
    """The samples of an XOR chunk. `growing`: more may stand behind them, as in the newest chunk of a Prometheus."""
    reader = _Reader(data)
    count = reader.bits(16)
    zigzag = reader.uvarint()
    time = zigzag >> 1 ^ -(zigzag & 1)
    value = reader.bits(64)
    out = [(time, value)]
    delta = leading = width = 0
    for number in range(1, count):
        if number == 1:
            delta = reader.uvarint()
        else:
            ones = reader.ones(4)
            time_width = (0, 14, 17, 20, 64)[ones]
            change = reader.bits(time_width)
            delta += signed(change, time_width) if ones else 0
        time += delta
        if reader.bits(1):
            if reader.bits(1):
                leading, width = reader.bits(5), reader.bits(6) or 64
            value ^= reader.bits(width) << (64 - leading - width)
        out.append((time, value))
    assert growing or reader.rest_is_padding()
    return out
