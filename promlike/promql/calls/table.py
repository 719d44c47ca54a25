"""All evaluators by the name of their function. `info` needs what only the executor has, and is not here."""

from promlike.promql.calls import absence, dates, elementwise, histograms, labels, over_time, rates, scalars, sorting
from promlike.promql.context import Evaluator

EVALUATORS: dict[str, Evaluator] = {
    **over_time.EVALUATORS,
    **rates.EVALUATORS,
    **elementwise.EVALUATORS,
    **scalars.EVALUATORS,
    **absence.EVALUATORS,
    **dates.EVALUATORS,
    **histograms.EVALUATORS,
    **labels.EVALUATORS,
    **sorting.EVALUATORS,
}
