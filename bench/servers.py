"""The servers under measurement: started in a fresh folder on a free port, stopped by their process id."""

import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from os import sysconf
from pathlib import Path

NAMES = ("promlike", "prometheus", "victoria-metrics")
TICKS = sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process has used so far: CPU seconds, resident bytes now and at most."""

    cpu_seconds: float
    rss_bytes: int
    peak_rss_bytes: int


@dataclass(slots=True, kw_only=True)
class Server:
    """A server that answers at `url`; `process` and `folder` are None when somebody else runs it."""

    name: str
    url: str
    process: "subprocess.Popen[bytes] | None" = None
    folder: Path | None = None
    ready_seconds: float = 0.0

    def usage(self) -> Usage | None:
        return process_usage(self.process.pid) if self.process is not None else None

    def disk_bytes(self) -> int:
        """Bytes that the data folder takes on disk (blocks, not lengths: some files are reserved ahead)."""
        if self.folder is None:
            return 0
        return sum(path.stat().st_blocks * 512 for path in (self.folder / "data").rglob("*") if path.is_file())

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def installed(name: str) -> bool:
    return name == "promlike" or shutil.which(name) is not None


def start(name: str, folder: Path, flags: Sequence[str] = ()) -> Server:
    """Start a server, with more flags of its own and on what an earlier one left in the folder, and wait until it is ready.

    Raise RuntimeError with the end of its log when it does not get there.
    """
    port = free_port()
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "prometheus.yml").write_text("global:\n  scrape_interval: 15s\n")
    log = folder / "log"
    began = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen([*_command(name, port, folder), *flags], stdout=output, stderr=subprocess.STDOUT)
    server = Server(name=name, url=f"http://127.0.0.1:{port}", process=process, folder=folder)
    try:
        _wait_until_ready(server, seconds=120)
    except RuntimeError as error:
        server.stop()
        raise RuntimeError(f"{error}; its log ends:\n{log.read_text(errors='replace')[-2000:]}") from error
    server.ready_seconds = time.monotonic() - began
    return server


def _command(name: str, port: int, folder: Path) -> list[str]:
    prometheus_flags = [
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--log.level=warn",
    ]
    commands = {
        "promlike": [sys.executable, "-m", "promlike", "serve", *prometheus_flags],
        "prometheus": ["prometheus", *prometheus_flags],
        "victoria-metrics": [
            "victoria-metrics",
            f"-storageDataPath={folder}/data",
            f"-httpListenAddr=127.0.0.1:{port}",
            "-search.disableCache",  # repeated queries are to be evaluated again, as the others do
            "-search.latencyOffset=1s",
            "-search.maxSeries=1000000",
            "-search.maxUniqueTimeseries=1000000",
            "-loggerLevel=WARN",
        ],
    }
    return commands[name]


def _wait_until_ready(server: Server, seconds: float) -> None:
    path = "/health" if server.name == "victoria-metrics" else "/-/ready"
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if server.process is not None and server.process.poll() is not None:
            raise RuntimeError(f"{server.name} ended with status {server.process.returncode}")
        try:
            with urllib.request.urlopen(server.url + path, timeout=5) as response:
                if response.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"{server.name} was not ready within {seconds:g} s")


def process_usage(pid: int) -> Usage:
    """From /proc, threads included; children are not."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Usage(
        cpu_seconds=(int(fields[11]) + int(fields[12])) / TICKS,
        rss_bytes=int(status["VmRSS"].split()[0]) * 1024,
        peak_rss_bytes=int(status["VmHWM"].split()[0]) * 1024,
    )


def ended_cpu_seconds(pid: int) -> float:
    """CPU seconds of a process's children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / TICKS


def settle(server: Server, *, seconds: float = 20.0) -> None:
    """Wait until the server rests (under a tenth of a core for a second), so that work put off counts as work of the load."""
    until = time.monotonic() + seconds
    before = server.usage()
    while before is not None and time.monotonic() < until:
        time.sleep(1.0)
        after = server.usage()
        if after is None or after.cpu_seconds - before.cpu_seconds < 0.1:
            return
        before = after


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
