"""What anybody can send: it is refused, harms nobody else and does not fill the log."""

import random
import socket
import time
from contextlib import ExitStack
from pathlib import Path

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest
from tests.servers import REMOTE_WRITE, Server, promlike

HEAD = b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\n"


def raw(server: Server, data: bytes, *, answered: bool = True) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(data)
        return connection.recv(200) if answered else b""


def write_one(server: Server, value: float) -> int:
    request = WriteRequest()
    series = request.timeseries.add()
    series.labels.add(name=b"__name__", value=b"good")
    series.samples.add(timestamp=int(time.time() * 1000) + int(value), value=value)
    return server.write(request).status


def test_garbage_is_refused_and_nobody_else_notices(tmp_path: Path) -> None:
    noise = random.Random(1)
    with promlike(tmp_path) as server, ExitStack() as idle:
        waiting = [idle.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(200)]
        for number, connection in enumerate(waiting):
            connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\nx" if number % 2 else HEAD[:10])
        assert write_one(server, 0) == 204
        before = server.log_file.stat().st_size
        for _ in range(100):
            answer = server.request("POST", "/api/v1/write", noise.randbytes(noise.randrange(1, 3000)), REMOTE_WRITE)
            assert answer.status in (400, 413)
            assert raw(server, HEAD + b"Content-Length: -1\r\n\r\nx").split()[1] == b"400"
            assert raw(server, HEAD + b"Content-Length: 5\r\n\r\n" + b"x" * 50).split()[1] == b"400"
            raw(server, noise.randbytes(300) + b"\r\n\r\n", answered=False)
        assert write_one(server, 1) == 204
        assert server.log_file.stat().st_size == before
        idle.close()
        assert server.data("query", query="count_over_time(good[1h])", time=str(time.time() + 5))["result"][0]["value"][1] == "2"
        assert server.stop() == 0
        assert "Traceback" not in server.log
