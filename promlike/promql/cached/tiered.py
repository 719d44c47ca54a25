"""Range queries that rollup tiers answer: when parts of such an answer are what they would be in any other.

A tier is chosen for a range as a whole, so parts are to be read from that tier by name. Then a step depends on its own time alone, if what
is said of moved windows holds for all steps alike, and if rows are what their samples make of them, rolled up already or on the way.
"""

from collections.abc import Sequence
from dataclasses import replace

from promlike.promql.cached.planned import Planned
from promlike.storage.access import SelectRequest, TierChoice

MOVED = 2
"""So many times its resolution a tier looks further back than samples: windows are widened to whole buckets, and moved."""

MARGIN = 2
"""So many times its resolution before rows are gone, steps that look at them are not kept any more."""


def with_tier(plan: Planned, requests: Sequence[SelectRequest], choice: TierChoice, *, is_hidden: bool) -> Planned | None:
    """The plan of a query that a tier answers; None when its answer may not be kept. `is_hidden`: some of the samples are gone."""
    if len(choice.resolutions_ms) != 1 or choice.is_mixed or not choice.is_settled:
        return None
    (resolution_ms,) = choice.resolutions_ms
    if plan.grid.step_ms % resolution_ms or (is_hidden and any(not request.tiers for request in requests)):
        return None
    found = replace(
        plan,
        key=replace(plan.key, resolution_ms=resolution_ms),
        reaches=frozenset(replace(reach, back_ms=reach.back_ms + MOVED * resolution_ms) for reach in plan.reaches),
        is_tiered=True,
    )
    if plan.grid.start_ms < found.first_seen_ms(choice.oldest_row_ms + MARGIN * resolution_ms):
        return None
    return found
