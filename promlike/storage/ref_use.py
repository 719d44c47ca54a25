"""Who knows series by their refs: a ref is given to another series only when nobody can still mean the one that had it."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Protocol
from weakref import WeakSet

from promlike.model.blocks import Int32


class RefHolder(Protocol):
    """Remembers refs for longer than it takes to append samples of them."""

    def held_refs(self) -> Int32:
        """The refs int32[N] that it may still use, some maybe twice."""
        ...


class RefUse:
    """Holders of refs, and those who use some for a while. On the event loop's thread."""

    def __init__(self) -> None:
        self._holders: WeakSet[RefHolder] = WeakSet()
        self._users: set[int] = set()
        self._numbers = count()

    def hold(self, holder: RefHolder) -> None:
        """For as long as the holder exists, what it holds is not given to others."""
        self._holders.add(holder)

    @contextmanager
    def using(self) -> Iterator[None]:
        """Inside, refs may be used that a holder had, or `series_ref` gave, at its beginning or since."""
        number = next(self._numbers)
        self._users.add(number)
        try:
            yield
        finally:
            self._users.discard(number)

    def held(self) -> list[Int32]:
        """What is held now."""
        return [holder.held_refs() for holder in self._holders]

    def mark(self) -> int:
        """Whoever uses refs now has a smaller number."""
        return next(self._numbers)

    def is_over(self, mark: int) -> bool:
        """Has everybody stopped who used refs at a mark?"""
        return min(self._users, default=mark) >= mark
