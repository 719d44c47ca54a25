"""Remote read beside a real Prometheus: the same requests to both, and a Prometheus that answers queries from promlike's samples."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cramjam
import numpy as np
import pytest

from promlike.model.blocks import SampleBlock
from promlike.model.frame import LabelFrame, SymbolScope
from promlike.remote_read.encode import encode_frames
from promlike.remote_read.pb.remote_read_pb2 import Label, LabelMatcher, ReadRequest, ReadResponse
from promlike.storage.access import SeriesBlock
from tests.differential import compare, data, pair
from tests.differential.pair import Pair
from tests.remote_read import slow_chunks
from tests.servers import Response, Server, prometheus, promlike

READ = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Read-Version": "0.1.0"}
CONFIG = "global: {external_labels: {cluster: ours, zone: z1, job: never}}\n"
Key = tuple[tuple[str, str], ...]
UNKNOWN = cast("ReadRequest.ResponseType", 7)
SETS: dict[str, list[tuple[int, str, str]]] = {
    "equal": [(LabelMatcher.EQ, "__name__", "http_requests_total")],
    "regex": [(LabelMatcher.RE, "__name__", "http_.*"), (LabelMatcher.NRE, "method", "P.*"), (LabelMatcher.NEQ, "code", "404")],
    "stale markers and gaps": [(LabelMatcher.NEQ, "__name__", "http_requests_total"), (LabelMatcher.NEQ, "job", "")],
    "an external label": [(LabelMatcher.EQ, "__name__", "up"), (LabelMatcher.EQ, "cluster", "ours")],
    "another value of an external label": [(LabelMatcher.EQ, "__name__", "up"), (LabelMatcher.EQ, "cluster", "theirs")],
    "an external label that series have": [(LabelMatcher.EQ, "__name__", "up"), (LabelMatcher.EQ, "job", "never")],
    "a pattern of an external label": [(LabelMatcher.EQ, "__name__", "up"), (LabelMatcher.RE, "cluster", "ours|x")],
    "nothing": [(LabelMatcher.EQ, "__name__", "nothing")],
}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    end_ms = int(time.time()) // 60 * 60_000
    requests = pair.write_requests(data.build(end_ms))
    with (
        prometheus(tmp_path_factory.mktemp("theirs"), config=CONFIG) as theirs,
        promlike(tmp_path_factory.mktemp("ours"), config=CONFIG) as ours,
    ):
        pair.send(ours, requests)
        pair.send(theirs, requests)
        yield Pair(ours=ours, theirs=theirs, end_ms=end_ms)


@dataclass(frozen=True, slots=True)
class Span:
    start_ms: int
    end_ms: int


def request(sets: Sequence[list[tuple[int, str, str]]], span: Span, *kinds: ReadRequest.ResponseType) -> ReadRequest:
    asked = ReadRequest(accepted_response_types=kinds)
    for matchers in sets:
        query = asked.queries.add(start_timestamp_ms=span.start_ms, end_timestamp_ms=span.end_ms)
        for kind, name, value in matchers:
            query.matchers.add(type=LabelMatcher.Type.ValueType(kind), name=name, value=value)
    return asked


def read(server: Server, asked: ReadRequest, path: str = "/api/v1/read") -> Response:
    return server.request("POST", path, bytes(cramjam.snappy.compress_raw(asked.SerializeToString())), READ)


def key(given: Sequence[Label]) -> Key:
    return tuple((label.name, label.value) for label in given)


def sampled(answer: Response) -> list[dict[Key, list[tuple[int, str]]]]:
    """By query and series. Prometheus loses the sign of -0, and names series whose chunks reach into the span without a sample."""
    assert (answer.status, answer.headers["Content-Type"], answer.headers["Content-Encoding"]) == (200, "application/x-protobuf", "snappy")
    found = ReadResponse.FromString(bytes(cramjam.snappy.decompress_raw(answer.body)))
    return [
        {
            key(one.labels): [(sample.timestamp, (sample.value + 0.0).hex()) for sample in one.samples]
            for one in result.timeseries
            if one.samples
        }
        for result in found.results
    ]


def streamed(answer: Response) -> dict[tuple[int, Key], list[slow_chunks.Row]]:
    assert (answer.status, answer.headers["Content-Type"]) == (
        200,
        "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse",
    )
    out: dict[tuple[int, Key], list[slow_chunks.Row]] = {}
    for frame in slow_chunks.frames(answer.body):
        for series in frame.chunked_series:
            rows = out.setdefault((frame.query_index, key(series.labels)), [])
            for chunk in series.chunks:
                rows += slow_chunks.rows(chunk.data, growing=True)
    return out


def whole(both: Pair) -> Span:
    return Span(both.end_ms - 7_200_000, both.end_ms)


@pytest.mark.parametrize("name", SETS)
def test_samples_are_those_of_prometheus(both: Pair, name: str) -> None:
    for span in (whole(both), Span(both.end_ms - 1_000_000, both.end_ms - 900_000), Span(0, 1)):
        asked = request([SETS[name]], span)
        ours, theirs = (sampled(read(server, asked)) for server in (both.ours, both.theirs))
        assert ours == theirs
        assert list(ours[0]) == list(theirs[0])


def test_queries_of_a_request_are_answered_in_order(both: Pair) -> None:
    asked = request(list(SETS.values()), whole(both))
    ours, theirs = (sampled(read(server, asked)) for server in (both.ours, both.theirs))
    assert len(ours) == len(SETS)
    assert ours == theirs


@pytest.mark.parametrize("name", SETS)
def test_streamed_series_are_those_of_prometheus(both: Pair, name: str) -> None:
    asked = request([SETS["nothing"], SETS[name]], whole(both), ReadRequest.STREAMED_XOR_CHUNKS)
    ours, theirs = (streamed(read(server, asked)) for server in (both.ours, both.theirs))
    assert ours == theirs
    assert list(ours) == list(theirs)


def test_samples_of_prometheus_become_the_bytes_of_its_chunks(both: Pair) -> None:
    asked = request([SETS["stale markers and gaps"]], whole(both), ReadRequest.STREAMED_XOR_CHUNKS)
    compared = 0
    for frame in slow_chunks.frames(read(both.theirs, asked).body):
        for chunk in frame.chunked_series[0].chunks:
            rows = slow_chunks.rows(chunk.data, growing=True)
            samples = SampleBlock(
                ts_ms=np.array([time for time, _ in rows]),
                values=np.array([bits for _, bits in rows], np.uint64).view(np.float64),
                offsets=np.array([0, len(rows)]),
            )
            one = SeriesBlock(labels=LabelFrame.from_labels([()], SymbolScope()), samples=samples)
            frames = slow_chunks.frames(b"".join(encode_frames(one, 0, 1 << 20)))
            if len(rows) <= 120:  # Prometheus sometimes takes more
                made = next(frames).chunked_series[0].chunks[0].data
                assert chunk.data[: len(made) - 1] == made[:-1]  # behind the last whole byte, the newest chunk goes on
                compared += 1
    assert compared > 50


def test_the_first_accepted_form_that_is_known_is_chosen(both: Pair) -> None:
    asked = request([SETS["equal"]], whole(both), UNKNOWN, ReadRequest.STREAMED_XOR_CHUNKS, ReadRequest.SAMPLES)
    for server in (both.ours, both.theirs):
        assert read(server, asked).headers["Content-Type"].startswith("application/x-streamed-protobuf")
    for server in (both.ours, both.theirs):
        answer = read(server, request([SETS["equal"]], whole(both), UNKNOWN))
        assert (answer.status, answer.text.startswith("server does not support any of the requested response types: [7]; supported: ")) == (
            400,
            True,
        )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        bytes(cramjam.snappy.compress_raw(b"\x0a\xff")),
        bytes(cramjam.snappy.compress_raw(request([[(LabelMatcher.RE, "a", "(")]], Span(0, 1)).SerializeToString())),
        bytes(cramjam.snappy.compress_raw(request([[(9, "a", "b")]], Span(0, 1)).SerializeToString())),
    ],
)
def test_bad_requests_are_refused_in_plain_text(both: Pair, body: bytes) -> None:
    answers = [server.request("POST", "/api/v1/read", body, READ) for server in (both.ours, both.theirs)]
    assert answers[0].headers["Content-Type"] == answers[1].headers["Content-Type"] == "text/plain; charset=utf-8"
    assert [answer.status // 100 for answer in answers] in ([4, 4], [4, 5])  # an unknown kind of matcher is Prometheus's own fault


def test_limits_are_kept(both: Pair, tmp_path: Path) -> None:
    flags = ("--storage.remote.read-sample-limit=1000", "--storage.remote.read-max-bytes-in-frame=400", "--query.max-samples=30000")
    asked = request([SETS["equal"]], whole(both))
    chunked = request([SETS["equal"]], whole(both), ReadRequest.STREAMED_XOR_CHUNKS)
    everything = request([[(LabelMatcher.NEQ, "__name__", "")]], whole(both), ReadRequest.STREAMED_XOR_CHUNKS)
    with promlike(tmp_path, *flags, config=CONFIG) as limited:
        pair.send(limited, pair.write_requests(data.build(both.end_ms)))
        answer = read(limited, asked)
        assert (answer.status, answer.text) == (400, "exceeded sample limit (1000)\n")
        assert streamed(read(limited, chunked)) == streamed(read(both.ours, chunked))
        assert len(list(slow_chunks.frames(read(limited, chunked).body))) > len(list(slow_chunks.frames(read(both.ours, chunked).body)))
        assert read(limited, everything).status == 422


QUERIES = ["up", "sum by (job) (rate(http_requests_total[5m]))", "count(count by (__name__) ({job!=''}))", "http_requests_total offset 20m"]


@pytest.mark.parametrize("own", ["{}", "{external_labels: {cluster: ours, zone: z1}}"])
def test_a_prometheus_answers_queries_from_here(both: Pair, tmp_path: Path, own: str) -> None:
    """Its own external labels are asked for and taken away again; without any it sees ours."""
    config = f"global: {own}\nremote_read: [{{url: '{both.ours.url}/api/v1/read', read_recent: true}}]\n"
    with prometheus(tmp_path, config=config) as reader:
        for query in QUERIES:
            params = {"query": query, "start": f"{both.end_ms / 1000 - 3600}", "end": f"{both.end_ms / 1000 - 60}", "step": "30"}
            theirs, ours = (pair.ask(server, "query_range", **params) for server in (reader, both.ours))
            if own == "{}":
                for one in theirs.body["data"]["result"]:
                    labels = one["metric"]
                    if "__name__" in labels:
                        assert (labels.pop("cluster"), labels.pop("zone")) == ("ours", "z1")
                        if labels.get("job") == "never":
                            del labels["job"]
            assert compare.differences(ours, theirs, ordered=False) == []
            assert theirs.body["data"]["result"]


def test_requests_beyond_the_allowed_number_wait(both: Pair, tmp_path: Path) -> None:
    with promlike(tmp_path, "--storage.remote.read-concurrent-limit=1") as one:
        pair.send(one, pair.write_requests(data.build(both.end_ms)))
        asked = request([SETS["equal"]], whole(both))
        for _ in range(3):  # a place that is not given back would never be free again
            assert read(one, asked).status == 200
            assert read(one, request([], Span(0, 1), UNKNOWN)).status == 400
