"""Connections of clients: no more than allowed, and none held for ever by a request that does not come whole."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.servers import Server, ask, free_port, prometheus, promlike

MOST = 3
TIMEOUT_S = 2.0
HEALTHY = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
HALF_FORM = (
    b"POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nquery=1"
)
HALF_WRITE = b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx"
HALF_CHUNKS = b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"
ACCEPTED, CLOSED = (f"net_conntrack_listener_conn_{name}_total" for name in ("accepted", "closed"))
FLAGS = (f"--web.max-connections={MOST}", f"--web.read-timeout={TIMEOUT_S:.0f}s")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with promlike(tmp_path_factory.mktemp("connections"), *FLAGS) as running:
        yield running


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def metric(server: Server, name: str) -> float:
    lines = server.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.partition("{")[0].partition(" ")[0] == name)


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def read_to_the_end(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def assert_answered(connection: socket.socket) -> None:
    assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


def assert_waits(connection: socket.socket, seconds: float = 0.5) -> None:
    connection.settimeout(seconds)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.settimeout(30)


@pytest.mark.parametrize("name", ["promlike", "prometheus"])
def test_who_comes_when_all_places_are_taken_waits_until_one_is_free(tmp_path: Path, name: str) -> None:
    start = promlike if name == "promlike" else prometheus
    with start(tmp_path, f"--web.max-connections={MOST}") as server, ExitStack() as stack:
        taken = [stack.enter_context(connect(server)) for _ in range(MOST)]
        for connection in taken:
            connection.sendall(HEALTHY)
            assert_answered(connection)
        waiting = [stack.enter_context(connect(server)) for _ in range(2)]
        for connection in waiting:
            connection.sendall(HEALTHY)
        assert_waits(waiting[0])
        taken[0].close()
        assert_answered(waiting[0])
        assert_waits(waiting[1])
        taken[1].sendall(HEALTHY)  # those that have a place keep it
        assert_answered(taken[1])
        waiting[0].close()
        assert_answered(waiting[1])


def test_connections_that_do_nothing_make_room_in_the_end(server: Server) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(server)) for _ in range(MOST)]
        assert server.get("/-/healthy").status == 200
        assert [connection.recv(1) for connection in silent] == [b""] * MOST


def test_an_idle_connection_is_closed_only_when_it_was_idle_that_long(server: Server) -> None:
    with connect(server) as connection:
        for _ in range(6):
            connection.sendall(HEALTHY)
            assert_answered(connection)
            time.sleep(TIMEOUT_S / 4)
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "part",
    [HEALTHY[:10], HEALTHY[:-2], HALF_FORM, HALF_WRITE, HALF_CHUNKS, HEALTHY + HEALTHY[:10]],
    ids=["request line", "head", "form", "remote write", "chunks", "second head"],
)
def test_a_request_that_does_not_come_whole_is_given_up(server: Server, part: bytes) -> None:
    began = time.monotonic()
    with connect(server) as connection:
        connection.sendall(part)
        if part.startswith(HEALTHY):
            assert_answered(connection)
        assert connection.recv(1000) == b""
    assert time.monotonic() - began > TIMEOUT_S / 2
    wait_until(lambda: metric(server, "promlike_http_connections") == 1)


@pytest.mark.parametrize("beginning", [HEALTHY[:10], HALF_FORM], ids=["head", "body"])
def test_a_request_that_comes_by_drops_is_given_up_too(server: Server, beginning: bytes) -> None:
    began = time.monotonic()
    with connect(server) as connection:
        connection.sendall(beginning)
        with pytest.raises(OSError, match=r"reset|Broken pipe"):  # noqa: PT012 - whichever drop notices
            while time.monotonic() < began + TIMEOUT_S * 10:
                time.sleep(0.1)
                connection.sendall(b"x")
        assert time.monotonic() - began > TIMEOUT_S / 2


def test_a_body_that_takes_its_time_but_comes_is_taken(server: Server) -> None:
    body = b"query=1%2B1&time=4"
    head = HALF_FORM.partition(b"Content-Length")[0] + b"Content-Length: %d\r\n\r\n" % len(body)
    with connect(server) as connection:
        connection.sendall(head + body[:7])
        time.sleep(TIMEOUT_S / 4)
        connection.sendall(body[7:])
        assert b'"result":[4,"2"]' in connection.recv(4096)
        connection.sendall(HEALTHY)
        assert_answered(connection)


def test_an_answer_that_takes_longer_than_a_request_may_is_given(tmp_path: Path) -> None:
    """The limit is about requests: an endless answer goes on."""
    with promlike(tmp_path, "--web.read-timeout=1s") as server, connect(server) as connection:
        connection.sendall(b"GET /api/v1/notifications/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert_answered(connection)
        connection.settimeout(2.5)
        with pytest.raises(TimeoutError):
            read_to_the_end(connection)


def test_connections_are_counted(server: Server) -> None:
    accepted = metric(server, ACCEPTED)
    with connect(server) as one, connect(server) as two:
        for connection in (one, two):
            connection.sendall(HEALTHY)
            assert_answered(connection)
        assert metric(server, "promlike_http_connections") == 3
    wait_until(lambda: metric(server, "promlike_http_connections") == 1)
    assert metric(server, "promlike_http_max_connections") == MOST
    with server.connection() as last:  # one that stays open, so that nothing is accepted or closed meanwhile
        lines = ask(last, "GET", "/metrics").text.splitlines()
        numbers = {line.partition("{")[0]: float(line.split()[-1]) for line in lines if "conntrack" in line and line[0] != "#"}
    assert numbers[ACCEPTED] > accepted + 4
    assert numbers[ACCEPTED] - numbers[CLOSED] == 1


def test_several_addresses_share_the_places(tmp_path: Path) -> None:
    """One place is enough for two addresses: nobody holds it while nobody connects."""
    other = free_port()
    with promlike(tmp_path, "--web.max-connections=1", f"--web.listen-address=127.0.0.2:{other}") as server:
        for place in (("127.0.0.1", server.port), ("127.0.0.2", other)) * 2:
            with socket.create_connection(place, timeout=30) as connection:
                connection.sendall(HEALTHY)
                assert_answered(connection)


def test_writing_goes_on_beside_senders_that_stall(tmp_path: Path) -> None:
    request = WriteRequest()
    series = request.timeseries.add()
    series.labels.add(name=b"__name__", value=b"good")
    series.samples.add(timestamp=int(time.time() * 1000), value=1.0)
    with promlike(tmp_path, "--web.max-connections=4", "--web.read-timeout=1s") as server, ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connect(server)).sendall(HALF_WRITE)
        assert server.write(request).status == 204
