"""Target labels joined to exposed ones, and the limits on labels."""

import pytest

from promlike.config.load import parse_config
from promlike.model.labels import Labels
from promlike.scrape.sample_labels import SampleLabels

TARGET = (("instance", "host:1"), ("job", "api"))


def rules(text: str = "") -> SampleLabels:
    config = parse_config(f"scrape_configs: [{{job_name: api, {text}}}]", file="x.yml").scrape_configs[0]
    return SampleLabels(config=config, target=TARGET)


def named(**labels: str) -> list[tuple[str, str]]:
    return [("__name__", "m"), *labels.items()]


def labels(**pairs: str) -> Labels:
    return tuple(sorted({"__name__": "m", **pairs}.items()))


def test_target_labels_win_and_exposed_ones_are_renamed() -> None:
    assert rules().of(named(job="x", a="b", empty="")) == labels(a="b", exported_job="x", instance="host:1", job="api")


def test_a_renamed_label_makes_way_for_one_that_is_there() -> None:
    found = rules().of(named(job="x", exported_job="y"))
    assert found == labels(exported_exported_job="x", exported_job="y", instance="host:1", job="api")


def test_with_honor_labels_exposed_labels_win_even_when_empty() -> None:
    found = rules("honor_labels: true").of(named(job="x", instance=""))
    assert found == labels(job="x")


def test_metric_relabelling_sees_the_joined_labels() -> None:
    found = rules("metric_relabel_configs: [{source_labels: [job, a], target_label: both}, {regex: a, action: labeldrop}]").of(named(a="b"))
    assert found == labels(both="api;b", instance="host:1", job="api")


def test_metric_relabelling_may_drop_a_series() -> None:
    assert rules("metric_relabel_configs: [{source_labels: [a], regex: b, action: drop}]").of(named(a="b")) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("metric_relabel_configs: [{regex: __name__, action: labeldrop}]", "took the metric name away"),
        ("label_limit: 3", 'label_limit exceeded: metric "m" has 4 labels, 3 are allowed'),
        ("label_name_length_limit: 7", 'label_name_length_limit exceeded: metric "m", label "__name__" has 8 bytes, 7 are allowed'),
        ("label_value_length_limit: 5", 'label_value_length_limit exceeded: metric "m", label "instance" has 6 bytes, 5 are allowed'),
        ("metric_name_validation_scheme: legacy", '"a.b" is not a label name of the legacy scheme'),
    ],
)
def test_a_series_that_breaks_a_rule_makes_the_scrape_fail(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        rules(text).of(named(**{"a.b": "é"}))


def test_limits_that_are_just_kept() -> None:
    assert rules("label_limit: 4, label_name_length_limit: 8, label_value_length_limit: 6").of(named(a="é"))


def test_series_about_the_scrape_have_the_target_labels() -> None:
    assert rules("metric_relabel_configs: [{regex: job, action: labeldrop}]").report("up") == (("__name__", "up"), *TARGET)
