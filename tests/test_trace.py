"""Trees of steps: their times, their form, and how large they may become."""

import json
from time import sleep

import orjson

from promlike.model.trace import MOST_CHARACTERS, MOST_LEVELS, MOST_STEPS, OFF, Trace
from tests.traces import steps


def test_a_step_takes_the_time_of_what_is_within_it() -> None:
    trace = Trace("outer %s", "one")
    with trace.child("inner") as step:
        sleep(0.01)
        step.add("rows=%d", 3)
        step.add("done")
    sleep(0.005)
    tree = trace.tree()
    assert tree["message"] == "outer one"
    (child,) = tree["children"]
    assert child["message"] == "inner: rows=3, done"
    assert "children" not in child
    assert 10 <= child["duration_msec"] <= tree["duration_msec"] - 5


def test_what_was_tried_in_vain_is_dropped() -> None:
    trace = Trace("outer")
    tried = trace.child("tried")
    tried.child("within")
    trace.drop(tried)
    trace.child("done")
    assert [step["message"] for step in steps(trace.tree())] == ["outer", "done"]


def test_too_deep_and_too_many_steps_are_left_out_and_counted() -> None:
    trace = inner = Trace("outer")
    for _ in range(MOST_LEVELS + 10):
        inner = inner.child("deeper")
    inner.child("left out, too").add("and takes what is said")
    tree = trace.tree()
    assert sum(1 for _ in steps(tree)) == MOST_LEVELS + 1
    assert tree["message"] == "outer (1 steps, and those within them, are not shown)"
    orjson.dumps(tree)
    wide = Trace("wide")
    for number in range(MOST_STEPS + 5):
        wide.child("%d", number)
    assert len(wide.tree()["children"]) == MOST_STEPS
    assert wide.tree()["message"] == "wide (5 steps, and those within them, are not shown)"


def test_texts_are_cut_and_can_be_written() -> None:
    trace = Trace("%s", "x" * 10_000)
    trace.add("%s", "bad \udcff byte")
    assert json.loads(orjson.dumps(trace.tree()))["message"] == f"{'x' * MOST_CHARACTERS}…: bad ? byte"


def test_no_trace_keeps_nothing() -> None:
    with OFF.child("%d", "not a number") as step:
        step.add("%d", "nor this")
        step.child("more").end()
    assert step is OFF
    assert OFF.tree()["message"] == ""
    assert "children" not in OFF.tree()
