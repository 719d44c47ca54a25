"""Are two answers of the HTTP API the same? Returns reasons, so that a failing test says what differs."""

import math
from dataclasses import dataclass
from typing import Any

RELATIVE = 1e-9
ABSOLUTE = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A status code and the decoded JSON envelope."""

    status: int
    body: dict[str, Any]


def same_value(left: str, right: str) -> bool:
    """Two values as printed: NaN equals NaN, finite ones may differ by rounding (2.42 sums without compensation)."""
    a, b = float(left), float(right)
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b or math.isclose(a, b, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def differences(ours: Answer, theirs: Answer, *, ordered: bool = False) -> list[str]:
    """Every way in which our answer is not theirs; empty when they agree. Errors agree when both are errors with one status and type."""
    if ours.status != theirs.status:
        return [f"status {ours.status}, not {theirs.status}: {ours.body.get('error')!r} / {theirs.body.get('error')!r}"]
    if ours.body["status"] == "error":
        return _unequal("errorType", ours.body["errorType"], theirs.body["errorType"])
    mine, wanted = ours.body["data"], theirs.body["data"]
    if mine["resultType"] != wanted["resultType"]:
        return [f"resultType {mine['resultType']}, not {wanted['resultType']}"]
    if mine["resultType"] in ("scalar", "string"):
        return _points([mine["result"]], [wanted["result"]], mine["resultType"] == "string", "")
    if ordered:
        order = [_key(series) for series in mine["result"]], [_key(series) for series in wanted["result"]]
        if order[0] != order[1] and sorted(order[0]) == sorted(order[1]):
            return [f"order {order[0]}, not {order[1]}"]
    return _series(mine["result"], wanted["result"])


def _series(mine: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> list[str]:
    left, right = ({_key(series): _values(series) for series in side} for side in (mine, wanted))
    found = [f"extra series {key}" for key in left.keys() - right.keys()] + [f"missing series {key}" for key in right.keys() - left.keys()]
    for key in sorted(left.keys() & right.keys()):
        found += _points(left[key], right[key], False, key)
    return found


def _key(series: dict[str, Any]) -> str:
    return "{" + ",".join(f"{name}={value!r}" for name, value in sorted(series["metric"].items())) + "}"


def _values(series: dict[str, Any]) -> list[Any]:
    return [series["value"]] if "value" in series else list(series["values"])


def _points(mine: list[Any], wanted: list[Any], text: bool, key: str) -> list[str]:
    times = [point[0] for point in mine], [point[0] for point in wanted]
    if times[0] != times[1]:
        return [f"{key}: times {_head(times[0])}, not {_head(times[1])}"]
    return [
        f"{key} at {a[0]}: {a[1]}, not {b[1]}"
        for a, b in zip(mine, wanted, strict=True)
        if (a[1] != b[1] if text else not same_value(a[1], b[1]))
    ]


def _head(times: list[Any]) -> str:
    return f"{len(times)} of {times[:3]}…"


def _unequal(what: str, mine: object, wanted: object) -> list[str]:
    return [] if mine == wanted else [f"{what} {mine!r}, not {wanted!r}"]
