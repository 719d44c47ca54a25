"""--enable-feature."""

import logging

import pytest

from promlike.cli.features import ALWAYS_ON, NOT_HERE, parse_features
from promlike.promql.options import Features


def test_features_are_switched_on_by_their_names() -> None:
    features = parse_features(["promql-experimental-functions, promql-delayed-name-removal", "type-and-unit-labels"])
    assert features == Features(promql_experimental_functions=True, promql_delayed_name_removal=True, type_and_unit_labels=True)


def test_nothing_asked_for_is_the_default() -> None:
    assert parse_features([""]) == Features()


def test_unknown_features_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert parse_features(["no-such-thing,native-histograms,promql-at-modifier"]) == Features()
    assert [record.message for record in caplog.records] == [
        "unknown option for --enable-feature",
        "feature changes nothing in promlike",
    ]


def test_no_name_stands_in_two_lists() -> None:
    settable = {name.replace("_", "-") for name in Features.__dataclass_fields__}
    assert not NOT_HERE & settable
    assert not NOT_HERE & ALWAYS_ON
