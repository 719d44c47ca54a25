from itertools import pairwise

import pytest

from promlike.errors import QueryError
from promlike.promql.calls.labels import Template
from promlike.promql.vector import VectorValue
from tests.promql.call_data import Call


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("$1", "a"),
        ("${1}x", "ax"),
        ("$1x", ""),
        ("$1-$2", "a-b"),
        ("$first/${second}", "a/b"),
        ("$$1", "$1"),
        ("$", "$"),
        ("a$-b", "a$-b"),
        ("${1", "${1"),
        ("${}", "${}"),
        ("$0", "a.b"),
        ("$9", ""),
        ("$01", ""),
        ("$none.", "."),
        ("$é", ""),
        ("plain", "plain"),
    ],
)
def test_replacements_in_gos_notation(template: str, expected: str) -> None:
    call = Call()
    vector = call.vector(({"src": "a.b"}, [1.0]))
    ((labels, _),) = call.rows("label_replace", vector, "dst", template, "src", r"(?P<first>\w+)\.(?P<second>\w+)")
    assert dict(labels).get("dst", "") == expected


def test_a_replacement_keeps_what_does_not_match() -> None:
    call = Call()
    vector = call.vector(({"src": "x-1"}, [1.0]), ({"src": "y", "dst": "old"}, [2.0]), ({"dst": "gone"}, [3.0]))
    rows = call.rows("label_replace", vector, "dst", "$1", "src", "x-(.*)|")
    assert [dict(labels).get("dst") for labels, _ in rows] == ["1", "old", None]


def test_a_new_name_is_not_dropped_later() -> None:
    call = Call()
    vector = call.vector(({"__name__": "a"}, [1.0]), ({"__name__": "b"}, [2.0]), drop_name=[True, True])
    replaced = call.run("label_replace", vector, "__name__", "new", "__name__", "a")
    assert isinstance(replaced, VectorValue)
    assert replaced.drop_name is not None
    assert replaced.drop_name.tolist() == [False, True]
    other = call.run("label_replace", vector, "dst", "new", "__name__", "a")
    assert isinstance(other, VectorValue)
    assert other.drop_name is not None
    assert other.drop_name.tolist() == [True, True]


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        ("label_replace", ("", "$1", "src", "(.*)"), "invalid destination label name in label_replace(): "),
        ("label_replace", ("dst", "$1", "src", "(.*"), "invalid regular expression in label_replace(): (.*"),
        ("label_replace", ("dst", "$1", "src", "\udcff"), "invalid regular expression in label_replace(): \ufffd"),
        ("label_replace", ("\udcff", "$1", "src", ".*"), "invalid destination label name in label_replace(): \ufffd"),
        ("label_join", ("", "-", "src"), "invalid destination label name in label_join(): "),
        ("label_join", ("dst", "-", ""), "invalid source label name in label_join(): "),
    ],
)
def test_errors(function: str, args: tuple[str, ...], message: str) -> None:
    call = Call()
    with pytest.raises(QueryError) as caught:
        call.run(function, call.vector(({"src": "a"}, [1.0]), ({"src": "b"}, [2.0])), *args)
    assert str(caught.value) == message


def test_series_that_are_never_present_do_not_clash() -> None:
    call = Call()
    assert len(call.rows("label_join", call.vector(({"a": "1"}, [1.0]), ({"a": "2"}, [None])), "a", "")) == 1


def test_labels_are_joined_in_order() -> None:
    call = Call()
    vector = call.vector(({"a": "1", "b": "2"}, [1.0]), ({"a": "3"}, [2.0]))
    rows = call.rows("label_join", vector, "dst", "-", "b", "a", "b")
    assert [dict(labels)["dst"] for labels, _ in rows] == ["2-1-2", "-3-"]


def test_a_template_has_text_and_groups() -> None:
    assert Template.parse("a$1.b${x}$$", {"x": 3}).parts == ("a", 1, ".b", 3, "", "$", "")


@pytest.mark.parametrize("function", ["sort_by_label", "sort_by_label_desc"])
def test_numbers_inside_labels_are_ordered_by_value(function: str) -> None:
    call = Call()
    ordered = ["", "1", "2", "10", "a", "a1", "a2", "a10", "a10b2", "a10b10", "b"]
    vector = call.vector(*(({"l": text, "x": "y"}, [1.0]) for text in sorted(ordered)))
    found = [dict(labels).get("l", "") for labels, _ in call.rows(function, vector, "l")]
    assert found == (ordered if function == "sort_by_label" else ordered[::-1])


def test_equal_labels_are_ordered_by_the_next_and_then_by_all() -> None:
    call = Call()
    rows = [{"a": "1", "b": "2", "c": "1"}, {"a": "1", "b": "2"}, {"a": "1", "b": "10"}, {"a": "01", "b": "3"}]
    found = [dict(labels) for labels, _ in call.rows("sort_by_label", call.vector(*((row, [1.0]) for row in rows)), "a", "b")]
    assert found == [rows[1], rows[0], rows[3], rows[2]]


def test_values_are_sorted_with_nan_last() -> None:
    call = Call()
    vector = call.vector(*(({"i": str(i)}, [value]) for i, value in enumerate([3.0, float("nan"), 1.0, None, 2.0])))
    ascending = [row[0] for row in call.values("sort", vector)][:-1]
    descending = [row[0] for row in call.values("sort_desc", vector)][:-1]
    assert all(a is not None and b is not None and a < b for a, b in pairwise(ascending))
    assert descending == ascending[::-1]
    assert not call.annotations.warnings


def test_sorting_a_range_query_is_warned_of() -> None:
    call = Call(2)
    vector = call.vector(({"i": "1"}, [3.0, 1.0]), ({"i": "2"}, [2.0, 2.0]))
    assert call.values("sort", vector) == [[3.0, 1.0], [2.0, 2.0]]
    assert call.annotations.warnings == (
        "PromQL warning: sort is ineffective for range queries since results are always ordered by labels (1:1)",
    )
