"""Ending a query that somebody else started, while it runs and while it waits."""

import threading
import time
from collections.abc import Iterator

import pytest

from tests.servers import Response, Server, promlike

ENDLESS = {"query": "quantile_over_time(0.5, vector(1)[7d:1s])", "start": "0", "end": "660000", "step": "60", "timeout": "60s"}
CANCEL = "/api/v1/admin/cancel_query"
CANCELED = {"status": "error", "errorType": "canceled", "error": "query was canceled by an administrator"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One query runs at a time."""
    with promlike(tmp_path_factory.mktemp("cancel"), "--web.enable-admin-api", "--query.max-concurrency=1") as one:
        yield one


class Asking(threading.Thread):
    """Asks for something that takes long."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.answer: Response | None = None

    def run(self) -> None:
        self.answer = self.server.post("/api/v1/query_range", **ENDLESS)


def active(server: Server, count: int) -> list[str]:
    """The ids of the queries, once there are so many."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = [one["id"] for one in server.get("/api/v1/status/active_queries").json()["data"]]
        if len(found) == count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"there are not {count} queries")


def test_queries_that_run_and_wait_end(server: Server) -> None:
    asking = [Asking(server), Asking(server)]
    asking[0].start()
    (running,) = active(server, 1)
    asking[1].start()
    waiting = active(server, 2)[1]
    for thread, number in zip(reversed(asking), (waiting, running), strict=True):
        started = time.monotonic()
        assert server.post(CANCEL, id=number).status == 204
        thread.join(30)
        assert thread.answer is not None
        assert (thread.answer.status, thread.answer.json()) == (503, CANCELED)
        assert time.monotonic() - started < 20
    assert active(server, 0) == []
    assert server.post(CANCEL, id=running).status == 404
    # The work itself has ended, so the only place is free for another query that needs one.
    assert server.get("/api/v1/query", query="sum_over_time(vector(1)[1h:1s])", timeout="15s").status == 200


def test_what_is_no_query_is_not_found(server: Server) -> None:
    for params, status, kind in (({}, 400, "bad_data"), ({"id": "x"}, 400, "bad_data"), ({"id": "99999"}, 404, "not_found")):
        answer = server.post(CANCEL, **params)
        assert (answer.status, answer.json()["errorType"]) == (status, kind)


def test_without_the_flag_nobody_may(tmp_path_factory: pytest.TempPathFactory) -> None:
    with promlike(tmp_path_factory.mktemp("plain")) as plain:
        answer = plain.post(CANCEL, id="1")
        assert (answer.status, answer.json()["errorType"]) == (503, "unavailable")
