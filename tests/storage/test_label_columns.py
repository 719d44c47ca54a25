"""Labels out of JSON texts: what the kernel finds is what a JSON parser finds."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promlike.errors import StorageError
from promlike.model.frame import Symbols
from promlike.model.labels import Labels, labels
from promlike.storage.index import SeriesIndex
from promlike.storage.label_columns import LabelColumns, read_labels

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
SERIES = st.lists(st.dictionaries(WORDS, WORDS, max_size=5), max_size=8)


def columns(texts: list[str]) -> LabelColumns:
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([len(text) for text in encoded]).astype(np.int64)
    starts = np.append(0, ends[:-1])[: len(ends)].astype(np.int64)
    return read_labels(np.frombuffer(bytearray(b"".join(encoded)), np.uint8), starts, ends)


def unpacked(found: LabelColumns) -> list[dict[str, str]]:
    pairs = found.pairs.reshape(-1, 2).tolist()
    bounds = found.offsets.tolist()
    return [{found.strings[n]: found.strings[v] for n, v in pairs[a:b]} for a, b in pairwise(bounds)]


@given(SERIES, st.booleans(), st.booleans())
def test_labels_are_those_of_a_json_parser(series: list[dict[str, str]], spaces: bool, escape: bool) -> None:
    separators = (", ", ": ") if spaces else (",", ":")
    texts = [json.dumps(pairs, separators=separators, ensure_ascii=escape) for pairs in series]
    found = columns(texts)
    assert unpacked(found) == series
    rows = np.array([at % 2 == 0 for at in range(len(series))], np.bool_)
    assert unpacked(found.take(rows)) == series[::2]


NO_OBJECTS = (
    "",
    "{",
    "[]",
    '{"a"}',
    '{"a":1}',
    '{"a":"b"',
    '{"a":"b",}',
    '{"a":"b',
    '{"a" "b"}',
    '{"a":{"b":"c"}}',
    '{"a":"\\"}',
    '"a":"b"}',
)


@pytest.mark.parametrize("text", NO_OBJECTS)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(StorageError, match="no JSON object of strings"):
        columns(['{"fine":"yes"}', text])


def index_of(known: list[Labels]) -> SeriesIndex:
    index = SeriesIndex(Symbols())
    for series in known:
        index.add(index.key(series))
    return index


@given(SERIES, SERIES)
def test_series_added_together_are_those_added_one_by_one(known: list[dict[str, str]], more: list[dict[str, str]]) -> None:
    before = list(dict.fromkeys(labels(series) for series in known if labels(series)))
    added = [series for series in more if labels(series)]
    together, one_by_one = index_of(before), index_of(before)
    refs = together.add_many(columns([json.dumps(series) for series in added]), np.full(len(added), -1, np.int32))
    expected = []
    for series in added:
        key = one_by_one.key(labels(series))
        found = one_by_one.find(key)
        expected.append(one_by_one.add(key) if found is None else found)
    assert refs.tolist() == expected
    assert [together.labels_of(ref) for ref in refs.tolist()] == [labels(series) for series in added]
    assert (together.count, together.living) == (one_by_one.count, one_by_one.living)
    assert dict(together.series_per_metric) == dict(one_by_one.series_per_metric)
    for there in before:
        assert together.find(together.key(there)) == one_by_one.find(one_by_one.key(there))


def test_series_of_the_store_keep_their_refs_and_are_ready() -> None:
    index = index_of([])
    texts = [json.dumps({"__name__": "up", "instance": str(k)}) for k in range(5000)]
    refs = np.arange(5000, dtype=np.int32)[::-1] * 2
    assert index.add_many(columns(texts), refs).tolist() == refs.tolist()
    assert index.labels_of(9998) == (("__name__", "up"), ("instance", "0"))
    assert index.ready[refs].all()
    assert not index.alive[1]
    assert index.add_many(columns(['{"__name__": "up", "instance": "new"}']), np.array([-1], np.int32)).tolist() == [9999]
    assert index.alive[9999]
    assert not index.ready[9999]
    with pytest.raises(ValueError, match="ref 2 "):
        index.add_many(columns(['{"__name__": "down"}']), np.array([2], np.int32))
    with pytest.raises(ValueError, match="ref 10001 "):
        index.add_many(columns(['{"__name__": "up", "instance": "7"}']), np.array([10_001], np.int32))


def test_a_series_that_was_removed_lives_again_when_others_have_it() -> None:
    index = index_of([labels({"__name__": "up"})])
    index.remove(np.array([0], np.int32))
    assert index.add_many(columns(['{"__name__": "up"}']), np.array([-1], np.int32)).tolist() == [0]
    assert index.alive[0]
    assert not index.ready[0]
    index.revive(0)
    assert index.ready[0]
    assert index.living == 1
