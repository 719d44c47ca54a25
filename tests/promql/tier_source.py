"""A source that answers from rows of a rollup tier wherever a query would have that."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from promlike.model.blocks import SampleBlock
from promlike.model.tiers import TierRows, wanted_names
from promlike.model.trace import OFF, Trace
from promlike.storage.access import Fit, Loading, Selection, SelectRequest, SeriesBlock, TierOption
from promlike.storage.roll_up import roll_up
from tests.promql.memory import MemorySource


@dataclass(slots=True)
class TierSource:
    """Implements `Queryable`. Takes the coarsest tier that fits at least so well, and notes every option it was offered."""

    samples: MemorySource
    fit: Fit = Fit.EXACT
    offered: list[TierOption] = field(default_factory=list)

    async def select(
        self, requests: Sequence[SelectRequest], *, max_samples: int, loading: Loading | None = None, trace: Trace = OFF
    ) -> Selection:
        options = [self._choose(request) for request in requests]
        whole = [
            SelectRequest(matchers=request.matchers, start_ms=option.start_ms, end_ms=option.end_ms) if option is not None else request
            for request, option in zip(requests, options, strict=True)
        ]
        selection = await self.samples.select(whole, max_samples=max_samples)
        blocks = [block if option is None else rolled_up(block, option) for block, option in zip(selection.blocks, options, strict=True)]
        return Selection(symbols=selection.symbols, blocks=blocks)

    def _choose(self, request: SelectRequest) -> TierOption | None:
        self.offered += request.tiers
        fitting = [option for option in request.tiers if option.fit <= self.fit or option.forced]
        return fitting[-1] if fitting else None


def rolled_up(block: SeriesBlock, option: TierOption) -> SeriesBlock:
    """The block's samples as rows with the columns that were asked for; the others are empty."""
    tier = roll_up(block.samples.whole(), option.resolution_ms)
    tier.validate()
    wanted = wanted_names(option.columns)
    columns = {name: column if name in wanted else column[:0] for name, column in tier.rows.columns().items()}
    rows = type(tier)(resolution_ms=tier.resolution_ms, rows=TierRows(**columns), offsets=tier.offsets)
    return SeriesBlock(labels=block.labels, samples=SampleBlock.empty(block.samples.series), tier=rows)


def same(a: np.ndarray[tuple[int], np.dtype[np.float64]], b: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    """Equal but for the rounding of sums."""
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
