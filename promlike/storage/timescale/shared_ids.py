"""The ids of series in the cache that daemons share: what one has found out, the others need not look up by labels.

An id from there is a guess, which the database confirms together with what has to be asked of it anyway: a series may have been dropped,
or the database restored to an earlier time.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from promlike.cache.shared import SharedCache
from promlike.model.blocks import Int32
from promlike.storage.timescale.ids import NO_ID, SeriesIds

KEEP_S = 86_400.0


class SharedIds:
    """Ids of one schema. `database` is the id of the schema, so that ids of another one, or of a new one, are never met."""

    def __init__(self, cache: SharedCache | None, database: str) -> None:
        self._cache = cache
        self._database = database
        self._found: dict[str, int] = {}

    async def find(self, refs: Sequence[int], labels: Sequence[str]) -> list[int]:
        """What the ids of series may be, NO_ID where nothing is known; `labels` are their JSON texts.

        They are remembered, with what the database says then, by `remember`.
        """
        if self._cache is None:
            return [NO_ID] * len(labels)
        keys = [f"series:{self._database}:{blake2b(text.encode(), digest_size=16).hexdigest()}" for text in labels]
        self._found.update(zip(keys, refs, strict=True))
        values = await self._cache.get_many(keys)
        return [int.from_bytes(value, "little") if value is not None and len(value) == 4 else NO_ID for value in values]

    def forget(self) -> None:
        """What was asked for since the last time did not come to be."""
        self._found = {}

    async def remember(self, ids: SeriesIds) -> None:
        """Tell the others the ids of the series that were asked for; once they are committed."""
        found, self._found = self._found, {}
        if self._cache is not None and found:
            refs: Int32 = np.fromiter(found.values(), np.int32, len(found))
            items = {key: int(id_).to_bytes(4, "little") for key, id_ in zip(found, ids.ids_of(refs).tolist(), strict=True) if id_ != NO_ID}
            await self._cache.set_many(items, ttl_s=KEEP_S)
