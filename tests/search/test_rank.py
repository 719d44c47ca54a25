"""Scores beside a slow, obvious twin of the kernel."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promlike.search.rank import FuzzyAlgorithm, SearchTerms, score


def slow_score(text: str, term: str, threshold: float) -> float:
    """On bytes, as the kernel."""
    data, wanted = text.encode(), term.encode()
    places = [at for at in range(len(data)) if data.startswith(wanted, at)]
    if places:
        share = 0.1 * len(wanted) / len(data)
        starts = [0.9 if at == 0 else 0.7 if data[at - 1 : at].isalnum() or data[at - 1] >= 128 else 0.8 for at in places]
        return max(starts) + share
    end = next((end for end in range(len(data) + 1) if contains_in_order(data[:end], wanted)), None)
    if end is None:
        return 0.0
    start = max(start for start in range(end) if contains_in_order(data[start:end], wanted))
    share = len(wanted) / (end - start)
    return 0.7 * share if share >= threshold else 0.0


def contains_in_order(data: bytes, wanted: bytes) -> bool:
    rest = iter(data)
    return all(byte in rest for byte in wanted)


TEXTS = st.lists(st.text(alphabet="aB_:9ü\0 ", max_size=12), max_size=8)


@given(TEXTS, st.text(alphabet="aB_9ü", min_size=1, max_size=4), st.sampled_from([0.0, 0.3, 0.75, 1.0]))
def test_scores_are_those_of_the_slow_twin(texts: Sequence[str], term: str, threshold: float) -> None:
    assert score(texts, SearchTerms(terms=(term,), threshold=threshold)).tolist() == pytest.approx(
        [slow_score(text.replace("\0", " ") if any("\0" in one for one in texts) else text, term, threshold) for text in texts]
    )


NAMES = ["http_requests_total", "http_response_size", "node_http_requests", "grpc_requests_total", "up", "HTTP_errors"]


SUBSEQUENCE, JARO_WINKLER = FuzzyAlgorithm


def fitting(*terms: str, algorithm: FuzzyAlgorithm = SUBSEQUENCE, threshold: float = 0, case_sensitive: bool = True) -> list[str]:
    """The best first."""
    search = SearchTerms(terms=terms, algorithm=algorithm, threshold=threshold, case_sensitive=case_sensitive)
    scores = score(NAMES, search).tolist()
    return [name for points, name in sorted(zip(scores, NAMES, strict=True), key=lambda pair: -pair[0]) if points]


def test_the_start_counts_more_than_the_start_of_a_word_and_that_more_than_its_middle() -> None:
    assert fitting("http_req") == ["http_requests_total", "node_http_requests"]
    assert fitting("requests", threshold=1) == ["node_http_requests", "http_requests_total", "grpc_requests_total"]
    assert fitting("up") == ["up"]
    assert score(["up"], SearchTerms(terms=("up",))).tolist() == [1.0]


def test_letters_in_order_fit_when_they_stand_close_enough() -> None:
    assert fitting("htrt") == ["http_requests_total", "node_http_requests"]
    assert fitting("upp") == []
    assert fitting("htrt", threshold=0.9) == []


def test_misspelt_names_fit_by_jaro_winkler() -> None:
    alike = fitting("htpp_requests_totl", algorithm=JARO_WINKLER, threshold=0.9)
    assert alike == ["http_requests_total"]
    assert fitting("htpp_requests_totl", algorithm=JARO_WINKLER, threshold=1) == []
    assert fitting("http_requests", algorithm=JARO_WINKLER, threshold=1) == ["http_requests_total", "node_http_requests"]


def test_case_counts_unless_told_otherwise() -> None:
    assert fitting("HTTP_", threshold=1) == ["HTTP_errors"]
    assert len(fitting("HTTP_", threshold=1, case_sensitive=False)) == 4


def test_any_of_several_terms_is_enough_and_none_fits_all() -> None:
    assert set(fitting("up", "grpc", threshold=1)) == {"up", "grpc_requests_total"}
    assert len(fitting()) == len(NAMES)
    assert score([], SearchTerms(terms=("a",))).tolist() == []
