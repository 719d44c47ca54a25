"""A Redis of our own: on a free loopback port, without a file on disk, stopped by its pid."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.servers import START_SECONDS, free_port, require


@dataclass(slots=True, kw_only=True)
class RedisServer:
    """Can be killed and started again on the same port; it comes back empty."""

    port: int
    password: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{f':{self.password}@' if self.password else ''}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        program = require("redis-server")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning"]
        if self.password:
            options += ["--requirepass", self.password]
        self.process = subprocess.Popen([program, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        started = time.monotonic()
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > started + START_SECONDS:
                raise RuntimeError("redis-server did not start")
            time.sleep(0.02)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return bool(connection.recv(64))
        except OSError:
            return False


@contextmanager
def redis_server(password: str = "") -> Iterator[RedisServer]:
    """Running inside, however often the test killed it."""
    server = RedisServer(port=free_port(), password=password)
    try:
        server.start()
        yield server
    finally:
        server.kill()
