"""A view per metric with a column per label, for people who write SQL: names and books, which both stores share.

A view has the columns of `COLUMNS`, then one for each label name that the metric's series have. Its name is the metric's and a column's the
label's, wherever the database can hold and tell them apart; `identifier` says what they are otherwise.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count

from promlike.model.labels import METRIC_NAME
from promlike.storage.store import SeriesRecord

COLUMNS = ("time", "value", "series_id", "labels")
"""The columns every view begins with. A label of such a name is shown with `label_` before it."""

MAX_LABEL_COLUMNS = 1000
"""A label name beyond these has no column of its own; it stands in `labels` like the others. (PostgreSQL ends at 1,600 columns.)"""

BUCKET_ORIGIN = "2001-01-01 00:00:00+00"
"""A Monday, so that buckets of a week begin on Mondays. Buckets of hours and days begin with them, in UTC."""

LOOK_BEHIND = "5 minutes"
"""How long before the start of a query for the increase of counters the sample before the first one is looked for."""

LabelNames = frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """What a database's identifiers are: at most `max_bytes` of UTF-8 (0: any length), equal when `key` of them is."""

    max_bytes: int
    key: Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricView:
    """A view: label `labels[i]` stands in column `columns[i]`."""

    metric: str
    name: str
    labels: tuple[str, ...]
    columns: tuple[str, ...]

    def grown(self, more: Iterable[str], naming: Naming) -> "MetricView":
        """The view with the label names it does not have yet, sorted, after those it has: what people built on it goes on working."""
        new = sorted(set(more) - set(self.labels) - {METRIC_NAME, ""})[: MAX_LABEL_COLUMNS - len(self.labels)]
        taken = {naming.key(column) for column in (*COLUMNS, *self.columns)}
        columns = []
        for label in new:
            wanted = f"label_{label}" if naming.key(label) in COLUMNS else label
            columns.append(identifier(wanted, taken, naming))
            taken.add(naming.key(columns[-1]))
        return MetricView(metric=self.metric, name=self.name, labels=(*self.labels, *new), columns=(*self.columns, *columns))


def candidates(name: str, naming: Naming) -> Iterator[str]:
    """The identifiers that a name may get, the best first: itself if it fits, then its beginning, `_` and 8 hexadecimal digits of its hash.

    The hash is BLAKE2b (https://www.rfc-editor.org/rfc/rfc7693) of 4 bytes. U+0000, which no identifier can hold, is shown as U+FFFD.
    """
    plain = name.replace("\0", "\ufffd")
    if plain and (not naming.max_bytes or len(plain.encode()) <= naming.max_bytes):
        yield plain
    for salt in count():
        ending = "_" + blake2b((f"{salt}\0{name}" if salt else name).encode(), digest_size=4).hexdigest()
        room = naming.max_bytes - len(ending) if naming.max_bytes else None
        yield plain.encode()[:room].decode("utf-8", "ignore") + ending


def identifier(name: str, taken: set[str], naming: Naming) -> str:
    """The first candidate whose key nobody has taken."""
    return next(candidate for candidate in candidates(name, naming) if naming.key(candidate) not in taken)


def plan_views(
    wanted: Mapping[str, LabelNames], existing: Mapping[str, MetricView], taken: Iterable[str], naming: Naming
) -> list[MetricView]:
    """The views of metrics that are to show these labels at least, grown from `existing`. `taken`: names that other metrics' views have.

    In the order of metrics, so that names do not depend on who came first within one flush.
    """
    keys = {naming.key(name) for name in taken} | {naming.key(view.name) for view in existing.values()}
    views = []
    for metric in sorted(wanted):
        view = existing.get(metric)
        if view is None:
            view = MetricView(metric=metric, name=identifier(metric, keys, naming), labels=(), columns=())
            keys.add(naming.key(view.name))
        views.append(view.grown(wanted[metric], naming))
    return views


@dataclass(slots=True, kw_only=True)
class LabelBooks:
    """Which label names the views of every metric show, so that a flush knows at once what is new to them.

    Where several processes keep the views of one database (`shared`), another may drop a view that is still in these books:
    `recent` has what new series need altogether, to be compared with the database's own books after the flush.
    """

    shared: bool = False
    known: dict[str, LabelNames] = field(default_factory=dict)
    recent: dict[str, LabelNames] = field(default_factory=dict)

    def watched(self, series: Iterable[SeriesRecord], growth: MutableMapping[str, LabelNames]) -> Iterator[SeriesRecord]:
        """The same series; meanwhile `growth` gets those metrics whose views do not show all labels, with the names they are to show."""
        for record in series:
            labels = dict(record.labels)
            metric = labels.pop(METRIC_NAME, "")
            shown = growth.get(metric, self.known.get(metric))
            if self.shared:
                self.recent[metric] = self.recent.get(metric, frozenset()) | labels.keys()
            if metric and (shown is None or not labels.keys() <= shown):
                growth[metric] = (shown or frozenset()) | labels.keys()
            yield record

    def compared(self, recent: Mapping[str, LabelNames]) -> None:
        """These entries of `recent` have been compared, as they were then."""
        for metric, labels in recent.items():
            if self.recent.get(metric) == labels:
                del self.recent[metric]

    def forget(self, metrics: Iterable[str]) -> None:
        """These metrics have no series any more: their views go, and are to come back with the next series."""
        for metric in metrics:
            self.known.pop(metric, None)
