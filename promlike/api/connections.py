"""Connections of clients: at most so many at a time, none for ever by a request that does not come whole."""

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from logging import getLogger

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

log = getLogger(__name__)

BACKLOG = 512
"""Connections that the system keeps for us until there is room."""

NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSE_S = 1.0
"""How long to wait for others to close a connection when the system has nothing left for another one."""


class Connections:
    """Those that are open, on all addresses together: at most `most`. One event loop."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.accepted = 0
        self.closed = 0
        self._waiting: list[Callable[[], None]] = []

    @property
    def open(self) -> int:
        return self.accepted - self.closed

    @property
    def is_full(self) -> bool:
        return self.open >= self.most

    def when_there_is_room(self, tell: Callable[[], None]) -> None:
        """Call this once a connection is closed."""
        self._waiting.append(tell)

    def opened(self) -> None:
        self.accepted += 1

    def gone(self) -> None:
        """A connection is closed."""
        self.closed += 1
        waiting, self._waiting = self._waiting, []
        for tell in waiting:
            tell()


def connection_metrics(connections: Connections) -> Iterable[Metric]:
    """Connections of clients; the counters under Prometheus's names."""
    listener = "net_conntrack_listener_conn"
    for name, about, count in (("accepted", "taken", connections.accepted), ("closed", "closed", connections.closed)):
        family = CounterMetricFamily(f"{listener}_{name}", f"Connections of clients that were {about}.", labels=["listener_name"])
        family.add_metric(["http"], count)
        yield family
    yield GaugeMetricFamily("promlike_http_connections", "Connections of clients that are open.", value=connections.open)
    yield GaugeMetricFamily("promlike_http_max_connections", "How many may be.", value=connections.most)


class LimitedSite(web.BaseSite):
    """Serves on a bound socket. Who connects while there is no room waits, as with Prometheus, until others go: the system has taken the
    connection then, but nobody reads from it.
    """

    def __init__(self, runner: web.BaseRunner, bound: socket.socket, connections: Connections) -> None:
        super().__init__(runner, backlog=BACKLOG)
        self._listening = bound
        self._connections = connections
        self._connecting: set[asyncio.Task[None]] = set()
        self._is_stopped = False

    @property
    def name(self) -> str:
        return str(self._listening.getsockname())

    async def start(self) -> None:
        await super().start()
        self._listening.setblocking(False)
        self._listening.listen(BACKLOG)
        self._go_on()

    async def stop(self) -> None:
        self._is_stopped = True
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        await super().stop()

    def _go_on(self) -> None:
        if not self._is_stopped:
            asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        """Somebody wants to connect."""
        loop = asyncio.get_running_loop()
        if self._connections.is_full:
            loop.remove_reader(self._listening)
            self._connections.when_there_is_room(self._go_on)
            return
        try:
            accepted, _ = self._listening.accept()
        except OSError as error:  # mostly, whoever it was went away
            if error.errno in NO_DESCRIPTORS:
                log.warning("no connection can be accepted for now: %s", error.strerror)
                loop.remove_reader(self._listening)
                loop.call_later(PAUSE_S, self._go_on)
            return
        accepted.setblocking(False)
        task = loop.create_task(self._connect(_Counted(self._handler(), self._connections), accepted))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def _handler(self) -> asyncio.Protocol:
        if self._runner.server is None:
            raise RuntimeError("a site of a runner that is not set up")
        return self._runner.server()

    async def _connect(self, protocol: "_Counted", accepted: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, accepted)
        except OSError:  # the client went away meanwhile
            accepted.close()
            protocol.end()


class _Counted(asyncio.Protocol):
    """Hands everything on to the protocol of a connection, and gives its place back at the end."""

    __slots__ = ("_connections", "_inner", "_is_open")

    def __init__(self, inner: asyncio.Protocol, connections: Connections) -> None:
        self._inner = inner
        self._connections = connections
        self._is_open = True
        connections.opened()

    def end(self) -> None:
        """The connection is closed, or never came to be; idempotent."""
        if self._is_open:
            self._is_open = False
            self._connections.gone()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.end()
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


def whole_within(seconds: float) -> Middleware:
    """Close the connection of a request whose body has not come as a whole after so long.

    Without an answer, so that who sends samples tries again: after a 4xx they would be dropped. Heads of requests, and connections that are
    idle, are timed by aiohttp.
    """

    @web.middleware
    async def timed(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.content.is_eof():
            return await handler(request)
        timer = asyncio.get_running_loop().call_later(seconds, _close_unless_whole, request)
        try:
            return await handler(request)
        finally:
            timer.cancel()

    return timed


def _close_unless_whole(request: web.Request) -> None:
    if not request.content.is_eof() and request.transport is not None:
        request.transport.abort()
