"""The sender: one thread and one plain socket a connection, because it shares its cores with the server."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from bench.servers import Server, settle

HEADERS = (
    "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\nUser-Agent: bench\r\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestResult:
    """`cpu_seconds` of the server include the work it put off until after the last answer."""

    samples: int
    seconds: float
    cpu_seconds: float
    client_cpu_seconds: float
    slowest_answer_seconds: float

    @property
    def samples_per_second(self) -> float:
        return self.samples / self.seconds


def ingest(server: Server, bodies: list[list[bytes]], samples: int) -> IngestResult:
    """Send all bodies, one connection a list, each body after the answer to the one before. Raise RuntimeError unless all are taken."""
    before = server.usage()
    client_before = time.process_time()
    began = time.perf_counter()
    slowest = send_all(server.url, bodies)
    seconds = time.perf_counter() - began
    client_cpu = time.process_time() - client_before
    settle(server)
    after = server.usage()
    return IngestResult(
        samples=samples,
        seconds=seconds,
        cpu_seconds=after.cpu_seconds - before.cpu_seconds if before and after else 0.0,
        client_cpu_seconds=client_cpu,
        slowest_answer_seconds=slowest,
    )


def send_all(url: str, bodies: list[list[bytes]]) -> float:
    """Send all bodies, one connection a list, each body after the answer to the one before; the slowest answer, in seconds."""
    with ThreadPoolExecutor(len(bodies)) as threads:
        return max(threads.map(lambda shard: send(url, shard), bodies))


def send(url: str, bodies: list[bytes]) -> float:
    """Send bodies over one connection; the slowest answer, in seconds. Raise RuntimeError unless all are taken."""
    parts = urlsplit(url)
    head = f"POST {parts.path.rstrip('/')}/api/v1/write HTTP/1.1\r\nHost: {parts.netloc}\r\n{HEADERS}Content-Length: "
    slowest = 0.0
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=120) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for body in bodies:
            sent = time.perf_counter()
            connection.sendall(f"{head}{len(body)}\r\n\r\n".encode() + body)
            _check(_read_answer(connection))
            slowest = max(slowest, time.perf_counter() - sent)
    return slowest


def _read_answer(connection: socket.socket) -> bytes:
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _receive(connection)
    head, _, rest = answer.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(rest) < length:
        rest += _receive(connection)
    return head + b"\r\n\r\n" + rest


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise RuntimeError("the server closed the connection")
    return data


def _check(answer: bytes) -> None:
    if not answer.startswith(b"HTTP/1.1 2"):
        raise RuntimeError(f"a body was refused: {answer[:500].decode(errors='replace')}")
