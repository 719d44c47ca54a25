"""Asking, timing and comparing."""

import http.client
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from bench.queries import Query
from bench.servers import Server

TOLERANCE = 1e-9

Series = dict[tuple[tuple[str, str], ...], list[tuple[float, float]]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """Median seconds of all repetitions, and what came back: `error`, or the data of the envelope."""

    seconds: float
    size: int
    error: str
    data: Any

    @property
    def count(self) -> int:
        """How many series or items came back."""
        return len(self.data["result"] if isinstance(self.data, dict) else self.data or ())


def ask_in_turn(servers: Sequence[Server], query: Query, *, end_ms: int, repetitions: int) -> list[Answer]:
    """One answer a server. Each repetition goes to every server in turn, so that a machine busy for a while is so for all of them."""
    askers = [_Asker(server, query.path(end_ms)) for server in servers]
    try:
        for _ in range(repetitions):
            for asker in askers:
                asker.ask()
        return [asker.answer() for asker in askers]
    finally:
        for asker in askers:
            asker.connection.close()


class _Asker:
    """One query to one server over one connection; a time ends with the last byte of the answer."""

    def __init__(self, server: Server, path: str) -> None:
        parts = urlsplit(server.url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=180)
        self._path = parts.path.rstrip("/") + path
        self._seconds: list[float] = []
        self._body = b""
        self._failure = ""

    def ask(self) -> None:
        began = time.perf_counter()
        try:
            self.connection.request("GET", self._path)
            self._body = self.connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            self._failure = f"no answer: {error!r}"
        self._seconds.append(time.perf_counter() - began)

    def answer(self) -> Answer:
        envelope = {"error": self._failure} if self._failure else _envelope(self._body)
        return Answer(
            seconds=median(self._seconds),
            size=len(self._body),
            error="" if envelope.get("status") == "success" else str(envelope.get("error", "no error named"))[:300],
            data=envelope.get("data"),
        )


def _envelope(body: bytes) -> dict[str, Any]:
    try:
        envelope = json.loads(body)
    except ValueError:
        return {"error": f"not JSON: {body[:200]!r}"}
    return envelope if isinstance(envelope, dict) else {"error": f"not an object: {body[:200]!r}"}


def difference(found: Answer, expected: Answer) -> str:
    """What makes two answers differ, or ""."""
    if found.error or expected.error:
        return found.error or f"only the other failed: {expected.error}"
    if isinstance(expected.data, list):
        return _list_difference(found.data, expected.data)
    if found.data["resultType"] != expected.data["resultType"]:
        return f"{found.data['resultType']}, not {expected.data['resultType']}"
    return _series_difference(_series(found.data["result"]), _series(expected.data["result"]))


def _list_difference(found: list[Any], expected: list[Any]) -> str:
    left, right = (sorted(json.dumps(item, sort_keys=True) for item in items) for items in (found, expected))
    return "" if left == right else f"{len(left)} items, not {len(right)}" if len(left) != len(right) else "other items"


def _series(result: list[dict[str, Any]]) -> Series:
    found: Series = {}
    for item in result:
        points = item["values"] if "values" in item else [item["value"]]
        found[tuple(sorted(item["metric"].items()))] = [(float(t), float(value)) for t, value in points]
    return found


def _series_difference(found: Series, expected: Series) -> str:
    if found.keys() != expected.keys():
        missing, extra = len(expected.keys() - found.keys()), len(found.keys() - expected.keys())
        return f"{len(found)} series, {missing} missing, {extra} extra"
    for labels, points in expected.items():
        others = found[labels]
        if [t for t, _ in points] != [t for t, _ in others]:
            return f"{len(others)} points, not {len(points)}, in {dict(labels)}"
        for (t, value), (_, other) in zip(points, others, strict=True):
            if not _equal(value, other):
                return f"{other!r}, not {value!r}, at {t:.3f} in {dict(labels)}"
    return ""


def _equal(left: float, right: float) -> bool:
    return left == right or (math.isnan(left) and math.isnan(right)) or math.isclose(left, right, rel_tol=TOLERANCE, abs_tol=1e-12)
