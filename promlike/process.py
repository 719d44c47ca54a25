"""What the server takes from the operating system before it starts: its data folder, its sockets, the memory it may count on."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from promlike.errors import PromlikeError


class StartError(PromlikeError):
    """The server cannot start; the message says what to change."""


def make_folder(folder: Path) -> None:
    """Create the data folder when it is missing. Raise StartError when it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"cannot use the data folder {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StartError(f"cannot use the data folder {folder}: it cannot be written to")


@contextmanager
def bound_sockets(addresses: Sequence[str]) -> Iterator[list[socket.socket]]:
    """Sockets bound to `host:port` addresses, not yet listening; closed at the end."""
    with ExitStack() as stack:
        yield [stack.enter_context(_bound(address)) for address in addresses]


def _bound(address: str) -> socket.socket:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise StartError(f"cannot listen on {address!r}: write HOST:PORT")
    bare = host.removeprefix("[").removesuffix("]")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(bare or "0.0.0.0", int(port), type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartError(f"cannot listen on {address}: {error.strerror}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
    except OSError as error:
        bound.close()
        raise StartError(f"cannot listen on {address}: {os.strerror(error.errno or 0)}") from error
    return bound


def memory_bytes() -> int:
    """How much memory this process may use: the machine's, or what its control group allows when that is less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
    allowed = [path.read_text().strip() for path in limits if path.exists()]
    return min([machine, *(int(text) for text in allowed if text.isdigit())])


def shown_address(bound: socket.socket) -> str:
    """`host:port` as bound, with the port the system chose for 0."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
