"""A remote read request: what is asked, and in which form the answer may come."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import cramjam
from google.protobuf.message import DecodeError

from promlike.errors import BadRequest
from promlike.model.labels import Labels
from promlike.model.matchers import Matcher, MatchOp
from promlike.remote_read.pb.remote_read_pb2 import LabelMatcher, Query, ReadRequest
from promlike.remote_write.decompress import decoded_size

MAX_TIME_MS = 2**62
"""Beyond this, sums of times would overflow."""

OPERATORS = {
    LabelMatcher.EQ: MatchOp.EQUAL,
    LabelMatcher.NEQ: MatchOp.NOT_EQUAL,
    LabelMatcher.RE: MatchOp.REGEX,
    LabelMatcher.NRE: MatchOp.NOT_REGEX,
}


class ResponseType(Enum):
    """In which form samples are sent: all at once, or as compressed chunks, frame by frame."""

    SAMPLES = ReadRequest.SAMPLES
    STREAMED_XOR_CHUNKS = ReadRequest.STREAMED_XOR_CHUNKS


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadQuery:
    """Series that satisfy all matchers, with their samples from start to end, both included."""

    matchers: tuple[Matcher, ...]
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadQueries:
    """A request that was read and found valid."""

    queries: Sequence[ReadQuery]
    response_type: ResponseType


def decode_request(body: bytes) -> ReadQueries:
    """Read a snappy block. Raise BadRequest where it is broken or asks for what is not there, PayloadTooLarge where it is too large."""
    decoded_size(body)
    request = ReadRequest()
    try:
        request.ParseFromString(bytes(cramjam.snappy.decompress_raw(body)))
    except (cramjam.DecompressionError, DecodeError) as error:
        raise BadRequest(f"malformed remote read request of {len(body)} bytes: {error}") from error
    return ReadQueries(queries=[_query(query) for query in request.queries], response_type=_negotiated(request))


def _negotiated(request: ReadRequest) -> ResponseType:
    """The first form the client accepts that there is."""
    accepted = list(request.accepted_response_types) or [ReadRequest.SAMPLES]
    known = [kind for kind in accepted if kind in ReadRequest.ResponseType.values()]
    if not known:
        raise BadRequest(
            f"server does not support any of the requested response types: {accepted}; supported: SAMPLES, STREAMED_XOR_CHUNKS"
        )
    return ResponseType(known[0])


def _query(query: Query) -> ReadQuery:
    """Times further away than MAX_TIME_MS are moved there."""
    start_ms, end_ms = (max(-MAX_TIME_MS, min(at, MAX_TIME_MS)) for at in (query.start_timestamp_ms, query.end_timestamp_ms))
    return ReadQuery(matchers=tuple(_matcher(matcher) for matcher in query.matchers), start_ms=start_ms, end_ms=end_ms)


def _matcher(matcher: LabelMatcher) -> Matcher:
    if matcher.type not in OPERATORS:
        raise BadRequest(f"invalid matcher type {matcher.type} of label {matcher.name!r}")
    return Matcher(matcher.name, OPERATORS[matcher.type], matcher.value)


def without_external(matchers: Sequence[Matcher], external: Labels) -> tuple[Matcher, ...]:
    """Conditions on stored series: one that asks for an external label asks for a series that does not have it."""
    return tuple(
        Matcher(one.name, MatchOp.EQUAL, "") if one.op is MatchOp.EQUAL and (one.name, one.value) in external else one for one in matchers
    )
