"""What a store does for itself from time to time, beside everything else."""

import asyncio
import logging

from promlike.errors import StorageError
from promlike.storage.store import Store

log = logging.getLogger(__name__)


class Upkeep:
    """Lets the store look after itself at every interval; a store that is away is asked again next time."""

    def __init__(self, interval_ms: int, store: Store) -> None:
        self._interval_ms = interval_ms
        self._store = store

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._interval_ms / 1000)
            try:
                await self._store.maintain()
            except StorageError as error:
                log.warning("upkeep of the store failed, next attempt in %.0f s: %s", self._interval_ms / 1000, error)
