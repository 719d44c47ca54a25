"""What flushes changed in the store, by their numbers, as far as this process has been told."""

from collections.abc import Iterable, Iterator

from promlike.model.flushes import FlushNews, StoredChange
from promlike.promql.cached.changed import Change, ChangeLog
from promlike.promql.cached.planned import touched
from promlike.promql.cached.reach import Reach
from promlike.promql.cached.run import touched_steps


class StoreHistory:
    """Flushes are told of in order. One thread."""

    def __init__(self) -> None:
        self.last = 0
        """The number of the newest flush that is known of."""
        self._tokens: dict[int, int] = {}
        self._log = ChangeLog()
        self._disputes: dict[StoredChange, None] = {}

    def learn(self, news: FlushNews, after: int, local: ChangeLog) -> None:
        """Take in what came after flush `after`, or after what was learned since that was asked for.

        What flushes of others changed goes to `local`, too: the log of what changed for this process.
        """
        if news.last < after:  # the database was restored to an earlier time
            self._log, self._tokens, self.last = ChangeLog(), {}, 0
            local.all_changed()
        self._disputes.update(dict.fromkeys(news.disputes))
        if news.last <= self.last:
            return
        known = {record.number: record for record in news.records}
        first = min(known, default=news.last)
        if first > self.last + 1:
            self._log.all_changed(first - 1)
            local.all_changed()
        for number in range(max(first, self.last + 1), news.last + 1):
            record = known.get(number)
            if record is None:
                self._log.all_changed(number)
                local.all_changed()
                continue
            self._tokens[number] = record.token
            for change in record.changes:
                metrics = None if change.metric is None else (change.metric,)
                self._log.changed(metrics, change.start_ms, change.end_ms, number)
                if not record.own:
                    local.changed(metrics, change.start_ms, change.end_ms)
        self.last = news.last

    def token(self, number: int) -> int | None:
        """That of a flush, None when what came after it is not known."""
        return self._tokens.get(number)

    def touched_since(self, number: int, reaches: Iterable[Reach]) -> list[tuple[int, int]]:
        """The closed intervals of times of steps that look at what flushes after this one changed."""
        return touched(reaches, self._log, number)

    def disputed(self, reaches: Iterable[Reach]) -> list[tuple[int, int]]:
        """The closed intervals of times of steps that look at what daemons may see differently."""
        return [
            interval
            for reach in reaches
            for change in self._disputed(reach.metric)
            if (interval := touched_steps(reach, change)) is not None
        ]

    def _disputed(self, metric: str | None) -> Iterator[Change]:
        for each in self._disputes:
            if metric is None or each.metric in (None, metric):
                yield Change(number=0, start_ms=each.start_ms, end_ms=each.end_ms)
