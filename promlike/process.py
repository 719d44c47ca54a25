"""What the server takes from the machine before it starts: its data folder, its sockets, the memory it may count on, compiled kernels."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from logging import getLogger
from pathlib import Path
from time import monotonic

from promlike.errors import PromlikeError
from promlike.kernel import compile_kernels, uncached_kernels
from promlike.storage.memory import release_code

log = getLogger(__name__)

EVERYWHERE = frozenset({"0.0.0.0", "::"})
"""Addresses that mean all of the machine's, of IPv4 and IPv6 where it has both, whichever of the two is written: as in Prometheus."""


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
    """Sockets bound to `host:port` addresses, not yet listening; closed at the end. Of a name's addresses the first of IPv4 counts."""
    with ExitStack() as stack:
        yield [stack.enter_context(_bound(address)) for address in addresses]


def _bound(address: str) -> socket.socket:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise StartError(f"cannot listen on {address!r}: write HOST:PORT")
    bare = host.removeprefix("[").removesuffix("]") or "0.0.0.0"
    everywhere = bare in EVERYWHERE and socket.has_dualstack_ipv6()
    try:
        found = socket.getaddrinfo("::" if everywhere else bare, int(port), type=socket.SOCK_STREAM)
        family, kind, protocol, _, place = min(found, key=lambda one: one[0] != socket.AF_INET)
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartError(f"cannot listen on {address}: {error.strerror}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if everywhere:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
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


def prepare_kernels() -> None:
    """Load every kernel before the first request; only the first start on a machine compiles them, and says so."""
    started = told = monotonic()
    if uncached_kernels():
        log.warning("compiled kernels cannot be kept, every start compiles them: set NUMBA_CACHE_DIR to a folder that can be written to")

    def progress(name: str, done: int, total: int) -> None:
        nonlocal told
        if monotonic() - told > 1.0:
            told = monotonic()
            log.info("compiling kernels for this machine, once", extra={"done": done, "of": total, "now": name.rpartition(".")[2]})

    count = compile_kernels(progress=progress)
    release_code("llvmlite")  # 40 MiB of compiler, which only a kernel of other types than declared would need again
    log.debug("kernels ready", extra={"count": count, "seconds": round(monotonic() - started, 2)})
