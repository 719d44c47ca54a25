"""Runs that were written as bytes are the same when they are read, and anything else is nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promlike.model.frame import SymbolScope
from promlike.promql.annotations import Note
from promlike.promql.ast import Span
from promlike.promql.cached import encoded
from promlike.promql.cached.encoded import SharedRun, decode, encode
from promlike.promql.cached.points import Points
from promlike.promql.cached.run import Run
from tests.promql.cached.test_parts import SERIES, Plain, matrix_of, plain


def run_of(series: Plain, counts: tuple[int, ...] = ()) -> SharedRun:
    """The steps 0, 10, … 300."""
    scaled = {name: {10 * ts: value for ts, value in points.items()} for name, points in series.items()}
    run = Run(
        first_ms=0,
        last_ms=300,
        step_ms=10,
        number=5,
        points=Points.of(matrix_of(scaled)),
        samples_per_step=counts,
        span_ms=700,
        text="sum(x)",
        notes=(Note(is_warning=True, message="\udc80 €", span=Span(3, 5), steps=np.arange(31) % 3 == 0),),
    )
    return SharedRun(run=run, flush=2**40, token=2**63 - 1)


@given(SERIES, st.booleans())
def test_what_was_written_is_read(series: Plain, counted: bool) -> None:
    shared = run_of(series, tuple(range(31)) if counted else ())
    value = encode("key", shared)
    assert value is not None
    found = decode("key", value)
    assert found is not None
    assert (found.flush, found.token, found.run.number) == (shared.flush, shared.token, 0)
    assert [note.key for note in found.run.notes] == [note.key for note in shared.run.notes]
    assert found.run.notes[0].steps.tolist() == shared.run.notes[0].steps.tolist()
    for name in ("first_ms", "last_ms", "step_ms", "samples_per_step", "span_ms", "text"):
        assert getattr(found.run, name) == getattr(shared.run, name)
    assert plain(found.run.points.matrix(SymbolScope())) == plain(shared.run.points.matrix(SymbolScope()))
    assert decode("other", value) is None


@given(SERIES, st.data())
def test_a_value_that_was_changed_is_none(series: Plain, data: st.DataObject) -> None:
    value = encode("key", run_of(series))
    assert value is not None
    at = data.draw(st.integers(0, len(value) - 1))
    changed = bytes((value[at] ^ data.draw(st.integers(1, 255)),))
    assert decode("key", value[:at] + changed + value[at + 1 :]) is None
    assert decode("key", value[:at]) is None
    assert decode("key", value + changed) is None


@given(st.binary(max_size=100))
def test_bytes_with_the_right_digest_that_are_no_run_are_none(body: bytes) -> None:
    assert decode("key", encoded._digest("key", body) + body) is None


def test_nan_keeps_its_bits() -> None:
    shared = run_of({(("a", "x"),): {0: 1.0, 3: 2.0}})
    bits = np.array([0x7FF0000000000003, -1], np.int64)
    shared.run.points.samples.values[:] = bits.view(np.float64)
    found = decode("key", encode("key", shared) or b"")
    assert found is not None
    assert found.run.points.samples.values.view(np.int64).tolist() == bits.tolist()


def test_what_is_too_large_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = run_of({(("a", "x"),): {0: 1.0}})
    monkeypatch.setattr(encoded, "MOST_CELLS", 30)
    assert encode("key", shared) is None
    monkeypatch.setattr(encoded, "MOST_CELLS", 31)
    assert encode("key", shared) is not None
    monkeypatch.setattr(encoded, "MOST_BYTES", 50)
    assert encode("key", shared) is None
