"""file_sd_configs: targets from JSON and YAML files, followed as they change."""

import asyncio
from dataclasses import dataclass, field
from glob import glob
from logging import getLogger
from pathlib import Path
from time import monotonic

import orjson
import yaml

from promlike.config.discovery import FileSDConfig
from promlike.errors import BadRequest
from promlike.scrape.discovery.groups import Publish, parse_groups
from promlike.scrape.target import TargetGroup

log = getLogger(__name__)

POLL_SECONDS = 1.0
"""How often files are looked at for changes; reading them is needed only then, and once in the refresh interval."""

Stamp = tuple[int, int, int]


@dataclass(slots=True, eq=False)
class FileDiscovery:
    """Follows the files of one config. A file that cannot be read keeps the targets it had; one that is gone loses them."""

    config: FileSDConfig
    poll_seconds: float = POLL_SECONDS
    _stamps: dict[str, Stamp] = field(default_factory=dict)

    async def run(self, publish: Publish) -> None:
        read_at = 0.0
        while True:
            refresh = monotonic() - read_at >= self.config.refresh_interval_ms / 1000
            read_at = monotonic() if refresh else read_at
            for source, groups in await asyncio.to_thread(self._changes, refresh):
                publish(source, groups)
            publish("", ())  # whatever was found, the first look is over
            await asyncio.sleep(self.poll_seconds)

    def _changes(self, refresh: bool) -> list[tuple[str, tuple[TargetGroup, ...]]]:
        """What to publish: files that are new or changed (all, with `refresh`), and those that are gone."""
        # Path.glob takes no absolute patterns.
        names = {name for pattern in self.config.files for name in glob(pattern)}  # noqa: PTH207
        found: list[tuple[str, tuple[TargetGroup, ...]]] = []
        for gone in self._stamps.keys() - names:
            del self._stamps[gone]
            found.append((gone, ()))
        for name in sorted(names):
            try:
                stamp = _stamp(name)
                if refresh or self._stamps.get(name) != stamp:
                    self._stamps[name] = stamp
                    found.append((name, read_groups(name)))
            except (OSError, ValueError, BadRequest) as error:
                log.error("cannot read targets, keeping those it named before", extra={"file": name, "error": str(error)})
        return found


def read_groups(name: str) -> tuple[TargetGroup, ...]:
    """The groups of a file. Raise OSError, ValueError or BadRequest saying what is wrong."""
    data = Path(name).read_bytes()
    try:
        content = orjson.loads(data) if name.lower().endswith(".json") else yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {error}") from error
    return parse_groups(content, __meta_filepath=name)


def _stamp(name: str) -> Stamp:
    status = Path(name).stat()
    return status.st_mtime_ns, status.st_size, status.st_ino
