"""Bodies of many new series share the event loop."""

import asyncio
from http import HTTPStatus

from promlike.remote_write.receiver import RemoteWriteReceiver
from tests.remote_write import wire
from tests.remote_write.sink import ListSink

SERIES = 5000


async def test_others_work_while_new_series_are_made() -> None:
    sink = ListSink()
    receiver = RemoteWriteReceiver(sink)
    body = wire.snappy(b"".join(wire.simple("m", [(1.0, 5)], pod=f"pod-{k}", some="label", more="labels") for k in range(SERIES)))
    writing = asyncio.create_task(receiver.write(body))
    turns = 0
    while not writing.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await writing).status == HTTPStatus.NO_CONTENT
    assert len(sink.rows) == SERIES
    assert turns > 4


async def test_bodies_that_bring_the_same_new_series_at_once_agree() -> None:
    sink = ListSink()
    receiver = RemoteWriteReceiver(sink)
    bodies = [wire.snappy(b"".join(wire.simple("m", [(1.0, t)], pod=f"pod-{k}") for k in range(SERIES))) for t in range(1, 4)]
    outcomes = await asyncio.gather(*(receiver.write(body) for body in bodies))
    assert {outcome.status for outcome in outcomes} == {HTTPStatus.NO_CONTENT}
    assert len(sink.refs) == receiver.known_series == SERIES
    assert len(set(sink.rows)) == len(sink.rows) == 3 * SERIES
