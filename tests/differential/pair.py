"""Prometheus and promlike side by side, holding the same data."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.differential import compare
from tests.differential.compare import Answer
from tests.differential.data import TestSeries
from tests.servers import Server

SLICE_MS = 10 * 60_000
"""Samples are sent a slice of time after the other, because Prometheus refuses what is much older than its newest sample."""


def ask(server: Server, path: str, **params: str) -> Answer:
    response = server.post(f"/api/v1/{path}", **params)
    return Answer(status=response.status, body=response.json())


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Both servers; queries end a minute before the data does, off every grid."""

    ours: Server
    theirs: Server
    end_ms: int

    def differences(self, query: str) -> list[str]:
        """What differs for one query, instant and range."""
        end = self.end_ms / 1000 - 60 + 0.937
        text = query.replace("{at}", f"{end - 600.5:.3f}")
        found = self._compare("query", text.startswith("sort"), query=text, time=f"{end:.3f}")
        return found + self._compare("query_range", False, query=text, start=f"{end - 1800:.3f}", end=f"{end:.3f}", step="53.7")

    def _compare(self, path: str, ordered: bool, **params: str) -> list[str]:
        answers = ask(self.ours, path, **params), ask(self.theirs, path, **params)
        return [f"{path}: {difference}" for difference in compare.differences(*answers, ordered=ordered)]


def send(server: Server, requests: Sequence[WriteRequest]) -> None:
    """Write them all; each must be taken whole."""
    for request in requests:
        answer = server.write(request)
        if answer.status // 100 != 2:
            raise RuntimeError(f"{server.name} answered a write with {answer.status}: {answer.text}")


def write_requests(series: Sequence[TestSeries]) -> list[WriteRequest]:
    """All samples as remote write 1.0, in order of time."""
    first = min(int(one.ts_ms[0]) for one in series)
    last = max(int(one.ts_ms[-1]) for one in series)
    return [_slice(series, start, start + SLICE_MS) for start in range(first, last + 1, SLICE_MS)]


def _slice(series: Sequence[TestSeries], start_ms: int, end_ms: int) -> WriteRequest:
    request = WriteRequest()
    for one in series:
        at, to = np.searchsorted(one.ts_ms, (start_ms, end_ms))
        if at == to:
            continue
        added = request.timeseries.add()
        for name, value in one.labels:
            added.labels.add(name=name.encode(), value=value.encode())
        for ts_ms, value in zip(one.ts_ms[at:to].tolist(), one.values[at:to].tolist(), strict=True):
            added.samples.add(timestamp=ts_ms, value=value)
    return request
