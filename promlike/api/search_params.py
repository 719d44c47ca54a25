"""Parameters of the search endpoints."""

from dataclasses import dataclass
from enum import StrEnum

from promlike.api.errors import InvalidParameter
from promlike.api.params import Params
from promlike.search.rank import FuzzyAlgorithm, SearchTerms

DEFAULT_LIMIT = 100
DEFAULT_BATCH = 100
MAX_TERMS = 32


class SortBy(StrEnum):
    """Order of the results: by text, or the best first."""

    ALPHA = "alpha"
    SCORE = "score"


class SortDir(StrEnum):
    """Direction of the order by text."""

    ASCENDING = "asc"
    DESCENDING = "dsc"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What to look for and how to answer. `limit` 0: all."""

    terms: SearchTerms
    sort_by: SortBy
    sort_dir: SortDir
    include_score: bool
    limit: int
    batch_size: int


def read_search(params: Params, max_limit: int) -> SearchRequest:
    """Raise BadRequest where a parameter is wrong. `max_limit`: the largest limit that may be asked for, 0 for none."""
    terms = params.all("search[]")
    if len(terms) > MAX_TERMS:
        raise InvalidParameter("search[]", f"{len(terms)} search terms, at most {MAX_TERMS} are allowed")
    if params.text("sort_dir") and params.text("sort_by") != SortBy.ALPHA:
        raise InvalidParameter("sort_dir", "only valid with sort_by=alpha")
    threshold = params.number("fuzz_threshold", 0)
    if not 0 <= threshold <= 100:
        raise InvalidParameter("fuzz_threshold", f"{threshold:g} is not between 0 and 100")
    limit = params.whole("limit", min(DEFAULT_LIMIT, max_limit or DEFAULT_LIMIT))
    if max_limit and limit > max_limit:
        raise InvalidParameter("limit", f"limit {limit} exceeds the maximum of {max_limit}, see --web.search.max-limit")
    return SearchRequest(
        terms=SearchTerms(
            terms=tuple(terms) if all(terms) else (),
            algorithm=params.choice("fuzz_alg", FuzzyAlgorithm.SUBSEQUENCE),
            threshold=threshold / 100,
            case_sensitive=params.boolean("case_sensitive", default=True),
        ),
        sort_by=params.choice("sort_by", SortBy.ALPHA),
        sort_dir=params.choice("sort_dir", SortDir.ASCENDING),
        include_score=params.boolean("include_score"),
        limit=limit or max_limit,
        batch_size=params.whole("batch_size", DEFAULT_BATCH) or DEFAULT_BATCH,
    )
