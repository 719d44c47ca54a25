"""Relabelling: every action, a row a case."""

from hashlib import md5

import pytest

from promlike.config.load import parse_config
from promlike.scrape.relabel import Rule, compile_rules, relabel

START = {"a": "foo", "b": "bar", "c": "baz", "__name__": "m"}


def rules(text: str) -> tuple[Rule, ...]:
    config = parse_config(f"scrape_configs: [{{job_name: a, relabel_configs: [{text}]}}]", file="x.yml")
    return compile_rules(config.scrape_configs[0].relabel_configs)


def hashmod(text: str, modulus: int) -> str:
    return str(int(md5(text.encode()).hexdigest()[16:], 16) % modulus)


CASES = [
    ("{source_labels: [a], regex: 'f(.*)', target_label: d, replacement: 'ch${1}-ch${1}'}", {"d": "choo-choo"}),
    ("{source_labels: [a, b], regex: '(.*);(.*)', target_label: a, replacement: '$2$1'}", {"a": "barfoo"}),
    ("{source_labels: [a, b], separator: '-', regex: 'foo-bar', target_label: d, replacement: x}", {"d": "x"}),
    ("{source_labels: [a], regex: 'fo', target_label: d}", {}),
    ("{source_labels: [a], target_label: d}", {"d": "foo"}),
    ("{source_labels: [none], target_label: a}", {"a": None}),
    ("{source_labels: [a], regex: 'foo', target_label: a, replacement: ''}", {"a": None}),
    ("{target_label: d, replacement: static}", {"d": "static"}),
    ("{source_labels: [a], regex: '(f)(x)?.*', target_label: d, replacement: '[$1$2]'}", {"d": "[f]"}),
    ("{source_labels: [a], regex: '(?P<first>f).*', target_label: d, replacement: '${first}$first'}", {"d": "ff"}),
    ("{source_labels: [a], regex: '(f).*', target_label: d, replacement: '$1x|${1}x|$9|$$1|$'}", {"d": "|fx||$1|$"}),
    ("{source_labels: [a], regex: '(f).*', target_label: '${1}_label', replacement: x}", {"f_label": "x"}),
    ("{source_labels: [a], regex: '(z?).*', target_label: '${1}', replacement: x}", {}),
    ("{source_labels: [a], regex: foo, action: keep}", {}),
    ("{source_labels: [a], regex: fo, action: keep}", None),
    ("{source_labels: [a], regex: foo, action: drop}", None),
    ("{source_labels: [a], regex: fo, action: drop}", {}),
    ("{source_labels: [none], regex: '', action: drop}", None),
    ("{source_labels: [a], target_label: a, action: keepequal}", {}),
    ("{source_labels: [a], target_label: b, action: keepequal}", None),
    ("{source_labels: [a], target_label: a, action: dropequal}", None),
    ("{source_labels: [a], target_label: b, action: dropequal}", {}),
    ("{source_labels: [c], target_label: d, modulus: 1000, action: hashmod}", {"d": hashmod("baz", 1000)}),
    ("{source_labels: [a, b], target_label: d, modulus: 7, action: hashmod}", {"d": hashmod("foo;bar", 7)}),
    ("{regex: '([ab])', replacement: 'x_$1', action: labelmap}", {"x_a": "foo", "x_b": "bar"}),
    ("{regex: 'nothing(.*)', action: labelmap}", {}),
    ("{regex: '[ab]', action: labeldrop}", {"a": None, "b": None}),
    ("{regex: '__name__|a', action: labelkeep}", {"b": None, "c": None}),
    ("{source_labels: [a], target_label: a, action: uppercase}", {"a": "FOO"}),
    ("{source_labels: [A, b], target_label: d, action: lowercase}", {"d": ";bar"}),
    ("{source_labels: [a], target_label: d}, {source_labels: [d], regex: foo, action: drop}, {target_label: e, replacement: x}", None),
    ("{source_labels: [a], target_label: d}, {source_labels: [d], target_label: e}", {"d": "foo", "e": "foo"}),
]


@pytest.mark.parametrize(("text", "change"), CASES, ids=[case[0] for case in CASES])
def test_rules(text: str, change: dict[str, str | None] | None) -> None:
    found = dict(START)
    kept = relabel(found, rules(text))
    assert kept == (change is not None)
    if change is not None:
        assert found == {name: value for name, value in {**START, **change}.items() if value is not None}


def test_expressions_match_the_whole_value_newlines_included() -> None:
    found = {"a": "one\ntwo"}
    assert relabel(found, rules("{source_labels: [a], regex: 'one.*', action: keep}"))
    assert not relabel(found, rules("{source_labels: [a], regex: 'one', action: keep}"))
