"""Real servers for tests: each in its own process, on a free port of 127.0.0.1, in a folder of its own, stopped by its pid."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import snappy  # type: ignore[import-untyped]  # python-snappy ships no type information

from promlike.remote_write.pb.remote_write_v1_pb2 import WriteRequest

START_SECONDS = 60.0
STOP_SECONDS = 30.0
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
REMOTE_WRITE = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}


ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Of servers: every start that must compile all modules again takes half a second longer."""

PORTS_EACH = 100
_ports = cycle(range(port := 10_000 + os.getpid() % 220 * PORTS_EACH, port + PORTS_EACH))
"""Below the ports that systems give to outgoing connections, and others for every process that runs tests: nobody else is to take a port
while its server is down between two starts, and then answer in its place.
"""


def free_port() -> int:
    """A port that nobody listens on."""
    for port in islice(_ports, PORTS_EACH):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError("all ports for tests are in use")


def kill_rounds(usual: int) -> int:
    """How often a test kills a server before it looks at what is there."""
    return int(os.environ.get("PROMLIKE_KILL_ROUNDS", usual))


def require(program: str) -> str:
    """The path of an installed program; the test is skipped without it."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """One request and its whole answer. Nothing of it stays open when the server is gone in the middle: `connection.close()` alone does not
    close an answer after which the server would have closed the connection.
    """
    connection.request(method, path, body, dict(headers or {}))
    with connection.getresponse() as answer:
        return Response(status=answer.status, headers=dict(answer.getheaders()), body=answer.read())


@dataclass(slots=True, kw_only=True)
class Server:
    """A process that speaks HTTP."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log_file: Path
    seconds_to_ready: float = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def request(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Response:
        with self.connection() as connection:
            return ask(connection, method, path, body, headers)

    @contextmanager
    def connection(self, timeout_s: float = 60.0) -> Iterator[http.client.HTTPConnection]:
        """For several requests, or one that is not waited for; closed at the end whatever happens."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)) as connection:
            yield connection

    def get(self, path: str, **params: str) -> Response:
        return self.request("GET", f"{path}?{urlencode(params)}" if params else path)

    def post(self, path: str, **params: str) -> Response:
        return self.request("POST", path, urlencode(params).encode(), FORM)

    def data(self, path: str, **params: str) -> Any:
        """`data` of a successful API answer."""
        answer = self.post(f"/api/v1/{path}", **params)
        assert answer.status == 200, answer.text
        return answer.json()["data"]

    def write(self, request: WriteRequest) -> Response:
        return self.request("POST", "/api/v1/write", snappy.compress(request.SerializeToString()), REMOTE_WRITE)

    def answers(self, path: str) -> bool:
        try:
            return self.get(path).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def stop(self, sign: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sign)
        return self.process.wait(STOP_SECONDS)


@contextmanager
def running(name: str, command: Sequence[str], *, port: int, folder: Path, ready: str) -> Iterator[Server]:
    """Start a server, wait until `ready` answers 200, stop it at the end unless the test did."""
    log_file = folder / f"{name}-{port}.log"
    started = time.monotonic()
    with (
        log_file.open("ab") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, env=ENVIRONMENT) as process,
    ):
        server = Server(name=name, port=port, process=process, log_file=log_file)
        try:
            while not server.answers(ready):
                if process.poll() is not None or time.monotonic() > started + START_SECONDS:
                    raise RuntimeError(f"{name} did not start:\n{server.log}")
                time.sleep(0.02)
            server.seconds_to_ready = time.monotonic() - started
            yield server
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise RuntimeError(f"{name} did not stop within {STOP_SECONDS} s:\n{server.log}") from None


def promlike_command(folder: Path, port: int, *flags: str, config: str = "global: {}\n") -> list[str]:
    """The command of a promlike that keeps its data below `folder`."""
    (folder / "promlike.yml").write_text(config)
    own = [f"--config.file={folder}/promlike.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    return [sys.executable, "-m", "promlike", "serve", *own, *flags]


@contextmanager
def promlike(folder: Path, *flags: str, config: str = "global: {}\n", port: int | None = None) -> Iterator[Server]:
    chosen = port or free_port()
    with running(
        "promlike", promlike_command(folder, chosen, *flags, config=config), port=chosen, folder=folder, ready="/-/ready"
    ) as server:
        yield server


@contextmanager
def prometheus(folder: Path, *flags: str, config: str = "global: {}\n") -> Iterator[Server]:
    program, port = require("prometheus"), free_port()
    (folder / "prometheus.yml").write_text(config)
    own = [
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/prometheus",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
    ]
    with running("prometheus", [program, *own, *flags], port=port, folder=folder, ready="/-/ready") as server:
        yield server


@contextmanager
def node_exporter(folder: Path) -> Iterator[Server]:
    program, port = require("prometheus-node-exporter"), free_port()
    flags = [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with running("node-exporter", [program, *flags], port=port, folder=folder, ready="/") as server:
        yield server
