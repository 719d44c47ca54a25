"""http_sd_configs: targets from an HTTP endpoint."""

import asyncio
from dataclasses import dataclass, field
from logging import getLogger

import orjson

from promlike.config.discovery import HTTPSDConfig
from promlike.errors import BadRequest
from promlike.scrape.client import FetchFailed, HttpClient
from promlike.scrape.discovery.groups import Publish, parse_groups
from promlike.scrape.target import TargetGroup

log = getLogger(__name__)


@dataclass(slots=True, eq=False)
class HttpDiscovery:
    """Asks an endpoint again and again. When it does not answer, the targets it named before stay."""

    config: HTTPSDConfig
    _client: HttpClient = field(init=False)

    def __post_init__(self) -> None:
        self._client = HttpClient(self.config.http)

    async def run(self, publish: Publish) -> None:
        try:
            while True:
                try:
                    publish(self.config.url, await self._ask())
                except (FetchFailed, ValueError, BadRequest) as error:
                    log.error("cannot discover targets, keeping those found before", extra={"url": self.config.url, "error": str(error)})
                await asyncio.sleep(self.config.refresh_interval_ms / 1000)
        finally:
            await self._client.close()

    async def _ask(self) -> tuple[TargetGroup, ...]:
        interval = self.config.refresh_interval_ms
        headers = {"Accept": "application/json", "X-Prometheus-Refresh-Interval-Seconds": f"{interval / 1000:g}"}
        answer = await self._client.get(self.config.url, headers, timeout_ms=interval)
        if "application/json" not in answer.content_type.lower():
            raise ValueError(f'the Content-Type must be application/json, not "{answer.content_type}"')
        return parse_groups(orjson.loads(answer.body), __meta_url=self.config.url)
