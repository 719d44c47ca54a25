"""Snappy blocks, with the size they claim checked before a byte is unpacked."""

import cramjam

from promlike.errors import BadRequest, PayloadTooLarge
from promlike.remote_write.kernels import Bytes

MAX_DECODED_BYTES = 32 << 20
"""What Prometheus allows a decoded body to have."""


def decoded_size(body: bytes, limit: int = MAX_DECODED_BYTES) -> int:
    """The size that the header of a snappy block claims; raise BadRequest when it is broken, PayloadTooLarge when it is over `limit`."""
    size = 0
    for i, byte in enumerate(body[:5]):
        size |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            break
    else:
        raise BadRequest(f"malformed snappy block of {len(body)} bytes: its header is not a size")
    if size > limit:
        raise PayloadTooLarge(f"the decoded body would have {size} bytes, allowed are {limit}")
    return size


def decompress_into(body: bytes, target: Bytes, size: int) -> None:
    """Unpack a block whose header claims `size` into the front of `target`; raise BadRequest when it is broken."""
    if size == 0 and len(body) == 1:
        return
    try:
        written = cramjam.snappy.decompress_raw_into(body, target.data)
    except cramjam.DecompressionError as error:
        reason = str(error).removeprefix("snappy: ")
        raise BadRequest(f"malformed snappy block of {len(body)} bytes: {reason}") from error
    if written != size:
        raise BadRequest(f"malformed snappy block of {len(body)} bytes: {written} bytes unpacked, its header says {size}")
