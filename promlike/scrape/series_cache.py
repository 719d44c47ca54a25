"""What a target remembers of its series between scrapes: refs, and which series were there last time.

A slot is a number for a series of this target. Several texts (the same labels in another order, or series made one by relabelling) may
share a slot. Axis letters: N samples, K slots.
"""

import os
from dataclasses import dataclass, field

import numpy as np

from promlike.errors import SampleRejected
from promlike.model.blocks import Float64, Int32, Int64
from promlike.model.labels import Labels
from promlike.remote_write.series_table import SeriesTable
from promlike.scrape import admission, kernels
from promlike.scrape.admission import DROPPED, admit
from promlike.scrape.exposition import Exposition
from promlike.storage.access import SampleSink

NEVER, NOT_YET = -2, -1
"""No number of a scrape: of a slot that was in none, of a target that had none."""
REFUSED = -1
FIRST_SLOTS = 64
SPARE_ENTRIES = 1000


def _seed() -> np.uint64:
    return np.uint64(int.from_bytes(os.urandom(8), "little"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Admitted:
    """The samples of a scrape that are stored: `refs int32[N]`, `ts_ms int64[N]`, `values float64[N]`, and what was counted."""

    refs: Int32
    ts_ms: Int64
    values: Float64
    duplicates: int
    added: int
    refused: int


@dataclass(slots=True, eq=False)
class SeriesCache:
    """Series text -> slot -> ref. `table` maps the bytes of a series to its slot, or to DROPPED."""

    table: SeriesTable = field(default_factory=lambda: SeriesTable(seed=_seed()))
    _refs: Int32 = field(default_factory=lambda: np.full(FIRST_SLOTS, REFUSED, np.int32))
    _seen: Int64 = field(default_factory=lambda: np.full(FIRST_SLOTS, NEVER, np.int64))
    _touched: Int64 = field(default_factory=lambda: np.full(FIRST_SLOTS, NEVER, np.int64))
    _slots: int = 0
    _free: list[int] = field(default_factory=list)
    _by_ref: dict[int, int] = field(default_factory=dict)
    _refused: dict[Labels, int] = field(default_factory=dict)
    _scrape: int = 0
    _last_read: int = NOT_YET
    _gone: Int32 = field(default_factory=lambda: np.empty(0, np.int32))

    def enter(self, found: Exposition, first: int, series: list[Labels | None], sink: SampleSink) -> list[SampleRejected]:
        """Give unseen series of an exposition, from number `first` on, their slots (None: dropped); return what the sink refused.

        Refused series are asked for again in every scrape in which they are present, in case the limit was raised or room was made.
        """
        rejected: list[SampleRejected] = []
        unseen = found.unseen[first : first + len(series)]
        keys = unseen.copy()
        for row, labels in enumerate(series):
            keys[row, 2] = DROPPED if labels is None else self._slot(labels, sink, rejected)
        found.which[unseen[:, 2]] = keys[:, 2]
        self.table.enter(found.body, keys)
        return rejected

    def retry_refused(self, found: Exposition, sink: SampleSink) -> list[SampleRejected]:
        """Ask again for the refs of refused series that this exposition holds."""
        rejected: list[SampleRejected] = []
        if self._refused:
            present = set(np.unique(found.which).tolist())
            for labels, slot in list(self._refused.items()):
                if slot in present:
                    self._ask(labels, slot, sink, rejected)
        return rejected

    def admit(self, found: Exposition, scrape_ms: int, *, honor_times: bool, track_times: bool) -> Admitted:
        """The samples to store; from now on these series count as present."""
        n = found.samples
        self._scrape += 1
        refs, ts_ms, values = np.empty(n, np.int32), np.empty(n, np.int64), np.empty(n)
        counts = np.zeros(4, np.int64)
        admit(
            found.which,
            found.ts_ms,
            found.values,
            scrape_ms,
            int(honor_times),
            int(track_times),
            self._scrape,
            self._last_read,
            self._refs,
            self._seen,
            self._touched,
            refs,
            ts_ms,
            values,
            counts,
        )
        taken = int(counts[admission.TAKEN])
        self._last_read = self._scrape
        return Admitted(
            refs=refs[:taken],
            ts_ms=ts_ms[:taken],
            values=values[:taken],
            duplicates=int(counts[admission.DUPLICATES]),
            added=int(counts[admission.ADDED]),
            refused=int(counts[admission.REFUSED]),
        )

    def held_refs(self) -> Int32:
        """What it may still give, some twice, negative where there is none: int32[N]."""
        return np.concatenate([self._refs[: self._slots], self._gone])

    def refs_of(self, slots: Int32) -> Int32:
        """The refs of slots int32[N], negative for what is dropped or refused."""
        refs: Int32 = np.where(slots >= 0, self._refs[slots], REFUSED)
        return refs

    def fail(self) -> None:
        """A scrape without samples: every series that was there is gone now."""
        self._scrape += 1

    def gone(self) -> Int32:
        """Refs of series that were there in the scrape before and are not now, or whose markers could not be written then."""
        vanished = self._in_scrape(self._scrape - 1)
        if len(vanished) or len(self._gone):
            self._gone = np.setdiff1d(np.union1d(vanished, self._gone), self._in_scrape(self._scrape)).astype(np.int32)
        return self._gone

    def _in_scrape(self, scrape: int) -> Int32:
        """Refs of the series whose last presence was in that scrape."""
        refs: Int32 = self._refs[: self._slots][self._seen[: self._slots] == scrape]
        return refs

    def written(self) -> None:
        """The markers of `gone()` are stored."""
        self._gone = np.empty(0, np.int32)

    def present(self) -> Int32:
        """Refs of the series that count as present, and of those whose markers are still owed: what must be marked when the target goes."""
        return np.union1d(self._in_scrape(self._scrape), self._gone).astype(np.int32)

    def inherit(self, refs: Int32) -> None:
        """Take over the present series of an earlier loop of the same target: those that do not show up again are marked as gone."""
        self._gone = refs

    def trim(self, samples: int) -> None:
        """After a scrape of so many samples: forget series that have not been there for a while, once they outnumber the others."""
        if self.table.count > 2 * samples + SPARE_ENTRIES:
            self.table.sweep()
            kept = np.zeros(self._slots, np.bool_)
            slots = self.table.arrays.entries[: self.table.count, kernels.SLOT]
            kept[slots[slots >= 0]] = True
            self._release(np.flatnonzero(~kept).tolist())

    def _release(self, slots: list[int]) -> None:
        # A series that counts as present, or whose marker is owed, keeps its slot; the next trim looks at it again.
        forgotten = {slot for slot in slots if self._seen[slot] < self._scrape - 1} - set(self._free)
        self._by_ref = {ref: slot for ref, slot in self._by_ref.items() if slot not in forgotten}
        self._refused = {labels: slot for labels, slot in self._refused.items() if slot not in forgotten}
        for slot in forgotten:
            self._refs[slot], self._seen[slot], self._touched[slot] = REFUSED, NEVER, NEVER
        self._free.extend(forgotten)

    def _slot(self, labels: Labels, sink: SampleSink, rejected: list[SampleRejected]) -> int:
        if labels in self._refused:
            return self._refused[labels]
        try:
            ref = sink.series_ref(labels)
        except SampleRejected as error:
            rejected.append(error)
            slot = self._new_slot(REFUSED)
            self._refused[labels] = slot
            return slot
        if ref not in self._by_ref:
            self._by_ref[ref] = self._new_slot(ref)
        return self._by_ref[ref]

    def _ask(self, labels: Labels, slot: int, sink: SampleSink, rejected: list[SampleRejected]) -> None:
        try:
            ref = sink.series_ref(labels)
        except SampleRejected as error:
            rejected.append(error)
            return
        self._refs[slot] = ref
        self._by_ref.setdefault(ref, slot)
        del self._refused[labels]

    def _new_slot(self, ref: int) -> int:
        slot = self._free.pop() if self._free else self._slots
        if slot == self._slots:
            self._slots += 1
            if slot == len(self._refs):
                self._grow()
        self._refs[slot] = ref
        return slot

    def _grow(self) -> None:
        more = len(self._refs)
        self._refs = np.concatenate([self._refs, np.full(more, REFUSED, np.int32)])
        self._seen = np.concatenate([self._seen, np.full(more, NEVER, np.int64)])
        self._touched = np.concatenate([self._touched, np.full(more, NEVER, np.int64)])
