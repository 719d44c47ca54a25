"""What only the first query of a process would wait for, done beforehand."""

import logging

from promlike.api.encode import encode_value
from promlike.errors import PromlikeError
from promlike.model.blocks import StepGrid
from promlike.model.clock import wall_clock_ms
from promlike.model.matchers import Matcher, MatchOp
from promlike.promql.engine import Engine
from promlike.promql.printer import format_matcher
from promlike.storage.storage import Storage

log = logging.getLogger(__name__)

STEP_MS = 15_000
STEPS = 240


async def prepare_first_query(storage: Storage, engine: Engine) -> None:
    """Ask for the last hour of one series, beside everything else: threads start, code of libraries and kernels comes into memory."""
    try:
        series = storage.gauges.newest_series
        selector = "{" + ",".join(format_matcher(Matcher(name, MatchOp.EQUAL, value)) for name, value in series) + "}"
        grid = StepGrid(start_ms=wall_clock_ms() - (STEPS - 1) * STEP_MS, step_ms=STEP_MS, count=STEPS)
        for query in (selector, f"sum(rate({selector}[5m]))") if series else ("vector(1)",):
            encode_value((await engine.range(storage, query, grid)).value)
    except PromlikeError as error:
        log.debug("the first query was not prepared: %s", error)
