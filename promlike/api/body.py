"""Bodies of requests: read whole, within a limit, and unpacked here, because aiohttp would offer the packages it lacks in its errors."""

import zlib
from collections.abc import Iterator
from email.message import Message

from aiohttp import hdrs, web
from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.http_exceptions import PayloadEncodingError

from promlike.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType

MAX_BYTES = 32 << 20
"""Of any body."""
MAX_FORM_BYTES = 10 << 20
"""Of a form once unpacked, as in Go."""

_GZIP = 16 + 15


async def read_body(request: web.Request) -> bytes:
    """The body as it was sent. Raise PayloadTooLarge when it has more than MAX_BYTES, BadRequest when it does not arrive whole."""
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise PayloadTooLarge(f"the body has more than the {MAX_BYTES} bytes allowed") from error
    except (web.RequestPayloadError, ClientPayloadError, PayloadEncodingError) as error:
        raise BadRequest(f"the body did not arrive whole: {error}") from error


async def read_form(request: web.Request) -> bytes:
    """The body of a form, unpacked. Raise UnsupportedMediaType for another packing than gzip; else as `read_body`."""
    body = await read_body(request)
    coding = request.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
    if coding not in ("", "identity", "gzip"):
        raise UnsupportedMediaType(f"unsupported Content-Encoding {coding!r} of a form, supported: gzip")
    form = _unpacked(body) if coding == "gzip" else body
    if len(form) > MAX_FORM_BYTES:
        raise PayloadTooLarge(f"the form has more than the {MAX_FORM_BYTES} bytes allowed")
    return form


def _unpacked(body: bytes) -> bytes:
    """What a gzip holds, or its beginning when that is more than MAX_FORM_BYTES."""
    stream = zlib.decompressobj(_GZIP)
    try:
        unpacked = stream.decompress(body, MAX_FORM_BYTES + 1)
    except zlib.error as error:
        raise BadRequest(f"the body is no gzip, as its Content-Encoding says: {error}") from error
    if not stream.eof and len(unpacked) <= MAX_FORM_BYTES:
        raise BadRequest("the body is no whole gzip")
    return unpacked


def multipart_pairs(body: bytes, content_type: str) -> Iterator[tuple[str, str]]:
    """Names and values of the fields of multipart/form-data; files are left out. Raise BadRequest when its end is missing."""
    boundary = _parameter(hdrs.CONTENT_TYPE, content_type, "boundary")
    if not boundary:
        raise BadRequest("error parsing form values: no multipart boundary param in Content-Type")
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary.encode())[1:]:
        if part.startswith(b"--"):
            return
        head, _, value = part.partition(b"\r\n\r\n")
        disposition = _header(head, b"content-disposition")
        name = _parameter(hdrs.CONTENT_DISPOSITION, disposition, "name")
        if name and not _parameter(hdrs.CONTENT_DISPOSITION, disposition, "filename"):
            yield name, value.decode("utf-8", "replace")
    raise BadRequest("error parsing form values: multipart: the last boundary is missing")


def _header(head: bytes, name: bytes) -> str:
    for line in head.split(b"\r\n"):
        found, _, text = line.partition(b":")
        if found.strip().lower() == name:
            return text.strip().decode("utf-8", "replace")
    return ""


def _parameter(header: str, text: str, name: str) -> str:
    """`name` of a header such as `form-data; name="query"`, empty without it."""
    message = Message()
    message[header] = text.replace("\n", " ").replace("\r", " ")
    value = message.get_param(name, "", header)
    return value if isinstance(value, str) else ""
