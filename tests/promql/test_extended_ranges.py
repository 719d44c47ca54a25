"""Ranges that are anchored or smoothed are for the functions that know what it means."""

import pytest

from promlike.errors import QueryError
from promlike.promql.extended import check_extended
from promlike.promql.options import Features
from promlike.promql.parser import parse

REFUSED = [
    ("deriv(a[3m] smoothed)", "smoothed modifier can only be used with: delta, increase, rate - not with deriv"),
    ("1 + sum(resets((a[3m] smoothed)))", "smoothed modifier can only be used with: delta, increase, rate - not with resets"),
    ("idelta(a[3m] anchored)", "anchored modifier can only be used with: changes, delta, increase, rate, resets - not with idelta"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_other_functions_are_refused(text: str, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        check_extended(parse(text, Features.all()))
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["rate(a[3m] smoothed)", "resets((a[3m] anchored))", "sum_over_time((a smoothed)[3m:])", "a[5m] anchored"])
def test_the_others_are_fine(text: str) -> None:
    check_extended(parse(text, Features.all()))
