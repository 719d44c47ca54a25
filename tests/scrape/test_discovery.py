"""The files and answers in which discoveries name targets."""

from pathlib import Path

import pytest

from promlike.errors import BadRequest
from promlike.scrape.discovery.file import read_groups
from promlike.scrape.discovery.groups import parse_groups
from promlike.scrape.target import TargetGroup


def test_groups_get_the_meta_labels() -> None:
    found = parse_groups([{"targets": ["a:1", "b:2"], "labels": {"x": "y"}}, {"targets": []}], __meta_url="u")
    assert found == (
        TargetGroup(targets=("a:1", "b:2"), labels=(("__meta_url", "u"), ("x", "y"))),
        TargetGroup(targets=(), labels=(("__meta_url", "u"),)),
    )


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"targets": []}, "a list of"),
        (["a:1"], "entry 1: a mapping"),
        ([{"targets": ["a:1"]}, {"target": ["a:1"]}], "entry 2: unknown key 'target'"),
        ([{"targets": "a:1"}], "entry 1: targets must be a list"),
        ([{"targets": [1]}], "entry 1: targets must be a list"),
        ([{"labels": ["a"]}], "entry 1: labels must be a mapping"),
        ([{"labels": {"a": 1}}], "entry 1: the value of label 'a' must be text, not 1"),
    ],
)
def test_wrong_entries_are_named(data: object, problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        parse_groups(data)


@pytest.mark.parametrize(
    ("name", "text"),
    [("t.json", '[{"targets": ["a:1"]}]'), ("t.yml", "- targets: ['a:1']\n"), ("t.yaml", "- targets:\n  - a:1\n")],
)
def test_files_are_json_or_yaml(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert read_groups(str(tmp_path / name))[0].targets == ("a:1",)


@pytest.mark.parametrize(("name", "text"), [("t.json", "[{"), ("t.yml", "- [a")])
def test_broken_files_are_value_errors(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=r"."):
        read_groups(str(tmp_path / name))
