"""What targets say of their metric families. Most targets of a job say the same, so that it stands in memory once."""

from collections.abc import Sequence
from types import MappingProxyType
from weakref import WeakValueDictionary

from promlike.storage.access import Metadata


class Families:
    """Metadata by name of the metric family, of one target or of many that agree."""

    __slots__ = ("__weakref__", "by_name")

    def __init__(self, entries: Sequence[Metadata] = ()) -> None:
        self.by_name = MappingProxyType({entry.metric: entry for entry in entries})


NO_FAMILIES = Families()


class FamilyBook:
    """Gives equal metadata as one object, for as long as a target has it."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[tuple[Metadata, ...], Families] = WeakValueDictionary()

    def families(self, entries: Sequence[Metadata]) -> Families:
        key = tuple(entries)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Families(key)
        return known
