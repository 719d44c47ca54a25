"""Series have an id in the database, which all writers share, and a ref in this process: between the two, as arrays."""

from threading import Lock

import numpy as np

from promlike.model.blocks import Int32

NO_ID = -1


class SeriesIds:
    """The id of every ref that the database has been told of. Any thread may ask; one thread at a time changes it."""

    def __init__(self) -> None:
        self._ids: Int32 = np.full(1024, NO_ID, np.int32)
        self._inverse: tuple[Int32, Int32] | None = None
        self._lock = Lock()

    def copy(self) -> "SeriesIds":
        """The same ids, to be changed apart from these."""
        other = SeriesIds()
        other._ids = self._ids.copy()
        return other

    def set(self, refs: Int32, ids: Int32) -> None:
        """From now on these refs (int32[S]) have these ids."""
        if not len(refs):
            return
        with self._lock:
            needed = int(refs.max()) + 1
            grown = self._ids
            if needed > len(grown):
                grown = np.full(max(needed, 2 * len(grown)), NO_ID, np.int32)
                grown[: len(self._ids)] = self._ids
            grown[refs] = ids
            self._ids, self._inverse = grown, None

    def forget(self, refs: Int32) -> None:
        """These refs (int32[S]) have no id any more."""
        if not len(refs):
            return  # else every flush would have all ids sorted again
        with self._lock:
            self._ids[refs[refs < len(self._ids)]] = NO_ID
            self._inverse = None

    def ids_of(self, refs: Int32) -> Int32:
        """The ids of `refs int32[S]`, NO_ID for those that the database does not know: int32[S]."""
        ids = self._ids
        if len(refs) and refs.max() < len(ids):
            return ids[refs]
        known = refs < len(ids)
        found = np.full(len(refs), NO_ID, np.int32)
        found[known] = ids[refs[known]]
        return found

    def refs_of(self, ids: Int32) -> Int32:
        """The refs of `ids int32[S]`, -1 for those that have none in this process: int32[S]."""
        ascending, refs = self._sorted()
        at = np.minimum(np.searchsorted(ascending, ids), max(len(ascending) - 1, 0))
        if not len(ascending):
            return np.full(len(ids), -1, np.int32)
        return np.where(ascending[at] == ids, refs[at], -1).astype(np.int32)

    def _sorted(self) -> tuple[Int32, Int32]:
        """All ids, ascending, and the ref of each; kept until something changes."""
        with self._lock:
            if self._inverse is None:
                refs = np.flatnonzero(self._ids != NO_ID).astype(np.int32)
                order = np.argsort(self._ids[refs], kind="stable")
                self._inverse = self._ids[refs][order], refs[order]
            return self._inverse
