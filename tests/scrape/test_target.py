"""From groups to targets: labels, URLs, offsets."""

import pytest

from promlike.config.load import parse_config
from promlike.scrape.relabel import compile_rules
from promlike.scrape.target import Target, TargetGroup, Targets, build_targets, global_url


def build(text: str = "", *groups: TargetGroup) -> Targets:
    config = parse_config(f"scrape_configs: [{{job_name: api, {text}}}]", file="x.yml").scrape_configs[0]
    return build_targets(groups or (TargetGroup(targets=("host:1",)),), config, compile_rules(config.relabel_configs))


def one(text: str = "", *groups: TargetGroup) -> Target:
    targets = build(text, *groups)
    assert not targets.problems
    assert len(targets.active) == 1
    return targets.active[0]


def test_a_target_has_job_and_instance() -> None:
    target = one()
    assert target.labels == (("instance", "host:1"), ("job", "api"))
    assert target.url == "http://host:1/metrics"
    assert dict(target.discovered) == {
        "__address__": "host:1",
        "__metrics_path__": "/metrics",
        "__scheme__": "http",
        "__scrape_interval__": "1m",
        "__scrape_timeout__": "10s",
        "job": "api",
    }


def test_labels_of_the_group_come_first_and_hidden_ones_are_not_kept() -> None:
    group = TargetGroup(targets=("host:1",), labels=(("__meta_x", "y"), ("instance", "mine"), ("job", "other"), ("room", "attic")))
    assert one("", group).labels == (("instance", "mine"), ("job", "other"), ("room", "attic"))
    assert dict(one("", group).discovered)["__meta_x"] == "y"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("scheme: https, metrics_path: /a/b", "https://host:1/a/b"),
        ("params: {b: [x, y], a: ['1 2']}", "http://host:1/metrics?a=1+2&b=x&b=y"),
        ("params: {a: [x, y]}, relabel_configs: [{target_label: __param_a, replacement: z}]", "http://host:1/metrics?a=z&a=y"),
        ("relabel_configs: [{target_label: __param_a, replacement: z}]", "http://host:1/metrics?a=z"),
        ("relabel_configs: [{target_label: __address__, replacement: '[::1]:9'}]", "http://[::1]:9/metrics"),
        ("relabel_configs: [{target_label: __scheme__, replacement: https}]", "https://host:1/metrics"),
        ("relabel_configs: [{target_label: __metrics_path__, replacement: '/a b?c'}]", "http://host:1/a%20b%3Fc"),
    ],
)
def test_urls(text: str, url: str) -> None:
    assert one(text).url == url


def test_relabelling_sets_interval_and_timeout() -> None:
    text = "relabel_configs: [{target_label: __scrape_interval__, replacement: 7s}, {target_label: __scrape_timeout__, replacement: 3s}]"
    target = one(text)
    assert (target.interval_ms, target.timeout_ms) == (7000, 3000)


@pytest.mark.parametrize(
    ("label", "value", "problem"),
    [
        ("__address__", "", "no address"),
        ("__address__", "a/b", "not a valid host:port"),
        ("__address__", "a:port", "not a valid host:port"),
        ("__scheme__", "ftp", "the scheme is http or https"),
        ("__scrape_interval__", "0s", "must be above 0"),
        ("__scrape_interval__", "x", "not a valid duration"),
        ("__scrape_interval__", "5s", "is longer than the interval"),
    ],
)
def test_a_target_that_cannot_be_scraped_is_left_out(label: str, value: str, problem: str) -> None:
    found = build(f"relabel_configs: [{{target_label: {label}, replacement: '{value}'}}]")
    assert not found.active
    assert not found.dropped
    assert problem in found.problems[0]


def test_dropped_targets_are_kept_with_what_was_discovered() -> None:
    groups = TargetGroup(targets=("a:1", "b:1"), labels=(("x", "y"),))
    found = build("relabel_configs: [{source_labels: [__address__], regex: 'a.*', action: drop}]", groups)
    assert [target.labels[0] for target in found.active] == [("instance", "b:1")]
    assert [dict(labels)["__address__"] for labels in found.dropped] == ["a:1"]


def test_equal_targets_are_one() -> None:
    groups = TargetGroup(targets=("a:1", "a:1")), TargetGroup(targets=("a:1",))
    assert len(build("", *groups).active) == 1


def test_offsets_spread_over_the_interval_and_stay_where_they_are() -> None:
    groups = TargetGroup(targets=tuple(f"host{i}:1" for i in range(400)))
    targets = build("scrape_interval: 10s", groups).active
    offsets = [target.offset_ms(1_000_000, 5) for target in targets]
    assert all(0 <= offset < 10_000 for offset in offsets)
    assert 80 < sum(offset < 2_500 for offset in offsets) < 120
    later = [target.offset_ms(1_003_000, 5) for target in targets]
    assert [(1_000_000 + a) % 10_000 for a in offsets] == [(1_003_000 + b) % 10_000 for b in later]
    assert offsets != [target.offset_ms(1_000_000, 6) for target in targets]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:9090/metrics", "https://prom.example/metrics"),
        ("http://127.0.0.1:9100/metrics", "http://prom.example:9100/metrics"),
        ("http://other:9090/metrics", "http://other:9090/metrics"),
    ],
)
def test_global_urls(url: str, expected: str) -> None:
    assert global_url(url, "https://prom.example", 9090) == expected
    assert global_url(url, "", 9090) == url
