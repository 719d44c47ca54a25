"""The JSON and YAML in which discoveries name targets: a list of `{targets: [...], labels: {...}}`."""

from collections.abc import Callable

from promlike.errors import BadRequest
from promlike.model.labels import labels
from promlike.scrape.target import TargetGroup

Publish = Callable[[str, tuple[TargetGroup, ...]], None]
"""Called with a source (a file, a URL) and the groups it names now; they replace those it named before."""


def parse_groups(data: object, **meta: str) -> tuple[TargetGroup, ...]:
    """The groups in decoded JSON or YAML, each with the `meta` labels. Raise BadRequest naming the entry that is wrong."""
    if data is None:
        return ()
    if not isinstance(data, list):
        raise BadRequest("a list of {targets: [...], labels: {...}} is needed")
    return tuple(_group(entry, f"entry {number}", meta) for number, entry in enumerate(data, 1))


def _group(entry: object, where: str, meta: dict[str, str]) -> TargetGroup:
    if not isinstance(entry, dict):
        raise BadRequest(f"{where}: a mapping with targets and labels is needed, not {entry!r}")
    if unknown := entry.keys() - {"targets", "labels"}:
        raise BadRequest(f"{where}: unknown key {min(map(str, unknown))!r}; known are targets and labels")
    targets, pairs = entry.get("targets") or [], entry.get("labels") or {}
    if not isinstance(targets, list) or not all(isinstance(target, str) and target for target in targets):
        raise BadRequest(f"{where}: targets must be a list of host:port texts")
    if not isinstance(pairs, dict) or not all(isinstance(name, str) and name for name in pairs):
        raise BadRequest(f"{where}: labels must be a mapping of names to values")
    for name, value in pairs.items():
        if not isinstance(value, str):
            raise BadRequest(f"{where}: the value of label {name!r} must be text, not {value!r}")
    return TargetGroup(targets=tuple(targets), labels=labels({**pairs, **meta}))
