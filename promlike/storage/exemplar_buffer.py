"""Exemplars that the store does not have yet."""

import numpy as np

from promlike.model.blocks import Int32
from promlike.model.exemplars import ExemplarIdentity, Exemplars

KEPT_OF_8 = 7
"""How many eighths stay when there are too many: dropping some at once is cheaper than one with every other."""


class ExemplarBuffer:
    """Holds at most `most` exemplars until a flush takes them; 0 holds none. Then the oldest to arrive are dropped, as from a ring.

    What a flush has taken stays readable until it is known to be stored. Everything runs on the event loop's thread.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._waiting: list[Exemplars] = []
        self._leaving = Exemplars.empty()
        self._keys: set[ExemplarIdentity] = set()

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def waiting(self) -> int:
        """How many no flush has taken yet."""
        return sum(len(part) for part in self._waiting)

    @property
    def series(self) -> int:
        """How many series have exemplars here."""
        return len({key[0] for key in self._keys})

    def append(self, exemplars: Exemplars) -> tuple[int, int]:
        """Take those that are not here yet; how many were new, and how many had to be dropped for them."""
        if self.most <= 0:
            return 0, 0
        fresh = []
        for row, key in enumerate(exemplars.identities()):
            if key not in self._keys:
                self._keys.add(key)
                fresh.append(row)
        if fresh:
            self._waiting.append(exemplars if len(fresh) == len(exemplars) else exemplars.take(np.array(fresh)))
        return len(fresh), self._shrink()

    def read(self, refs: Int32, start_ms: int, end_ms: int) -> Exemplars:
        """Those of `refs int32[S]` with start_ms < ts_ms <= end_ms, in the order of arrival."""
        held = Exemplars.joined([self._leaving, self._joined()])
        return held.take((held.ts_ms > start_ms) & (held.ts_ms <= end_ms) & np.isin(held.refs, refs))

    def refs_between(self, start_ms: int, end_ms: int) -> Int32:
        """Refs (int32[N], some twice) of those with start_ms < ts_ms <= end_ms."""
        held = Exemplars.joined([self._leaving, self._joined()])
        return held.refs[(held.ts_ms > start_ms) & (held.ts_ms <= end_ms)]

    def all_refs(self) -> list[Int32]:
        """Refs (int32[N], some twice) of all that is here."""
        return [part.refs for part in (self._leaving, *self._waiting)]

    def delete(self, refs: Int32, start_ms: int, end_ms: int) -> int:
        """Forget what `read` would give; how many. A flush that runs still stores what it has taken."""
        gone = self.read(refs, start_ms, end_ms)
        self._forget(gone)
        if len(gone):
            self._leaving, waiting = self._known(self._leaving), self._known(self._joined())
            self._waiting = [waiting]
        return len(gone)

    def begin(self) -> Exemplars:
        """What a flush is to store. `flushed` or `not_flushed` follows."""
        self._leaving, self._waiting = self._joined(), []
        return self._leaving

    def flushed(self) -> None:
        """The store has what `begin` gave."""
        self._forget(self._leaving)
        self._leaving = Exemplars.empty()

    def not_flushed(self) -> None:
        """The store has nothing of what `begin` gave."""
        self._waiting.insert(0, self._leaving)
        self._leaving = Exemplars.empty()

    def _joined(self) -> Exemplars:
        """Everything that waits, from now on as one part."""
        if len(self._waiting) != 1:
            self._waiting = [Exemplars.joined(self._waiting)]
        return self._waiting[0]

    def _shrink(self) -> int:
        """Drop the oldest until there are fewer than allowed; what a flush has taken is not counted."""
        if self.waiting <= self.most:
            return 0
        held = self._joined()
        gone = len(held) - self.most * KEPT_OF_8 // 8
        self._forget(held.take(np.arange(gone)))
        self._waiting = [held.take(np.arange(gone, len(held)))]
        return gone

    def _known(self, exemplars: Exemplars) -> Exemplars:
        """Those that were not forgotten."""
        return exemplars.take(np.array([key in self._keys for key in exemplars.identities()], np.bool_))

    def _forget(self, exemplars: Exemplars) -> None:
        self._keys.difference_update(exemplars.identities())
