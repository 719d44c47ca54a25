"""A PostgreSQL of our own: in a temporary folder, on a free loopback port, stopped by its pid. PostgreSQL does not start as root."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers import START_SECONDS, free_port

ACCOUNT = "postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A server that can be killed and started again. `control`: the command of pg_ctl; `options`: what it starts the server with."""

    port: int
    folder: Path
    control: Sequence[str]
    options: str

    def url(self, database: str) -> str:
        return f"postgresql://{ACCOUNT}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, or start again; after `kill` this waits until the processes of the dead server are gone, too."""
        started = time.monotonic()
        command = [*self.control, "-o", self.options, "-l", str(self.folder / "log"), "start"]
        while subprocess.run(command, check=False, capture_output=True, cwd=self.folder).returncode:
            if time.monotonic() > started + START_SECONDS:
                raise RuntimeError(f"PostgreSQL did not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """As a crash of the machine would."""
        subprocess.run([*self.control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd=self.folder)

    def end(self) -> None:
        """Stop it, unless a test left it stopped or killed."""
        subprocess.run([*self.control, "-m", "immediate", "stop"], check=False, capture_output=True, cwd=self.folder)

    def kill(self) -> None:
        """kill -9; the processes of its connections see it and end."""
        os.kill(self.pid, signal.SIGKILL)

    def send(self, sign: int) -> None:
        """Send a signal to the server and all its processes; SIGSTOP makes it hang, SIGCONT go on."""
        main = self.pid
        for pid in (main, *map(int, Path(f"/proc/{main}/task/{main}/children").read_text().split())):
            with suppress(ProcessLookupError):
                os.kill(pid, sign)

    @property
    def pid(self) -> int:
        """The process that takes connections."""
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])


def server_programs() -> Path:
    """The folder of the newest installed server; the test is skipped without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if not found:
        pytest.skip("postgresql is not installed")
    return found[-1].parent


def require_timescaledb(programs: Path) -> None:
    """Skip the test where the server has no TimescaleDB."""
    share = subprocess.run([programs / "pg_config", "--sharedir"], capture_output=True, text=True, check=True).stdout.strip()
    if not (Path(share) / "extension" / "timescaledb.control").exists():
        pytest.skip("the TimescaleDB extension is not installed")


@contextmanager
def timescaledb() -> Iterator[Postgres]:
    """A running server with the extension preloaded."""
    require_timescaledb(server_programs())
    with postgresql("shared_preload_libraries=timescaledb", "timescaledb.telemetry_level=off") as server:
        yield server


@contextmanager
def postgresql(*settings: str) -> Iterator[Postgres]:
    """A running server with more settings."""
    programs = server_programs()
    as_root = os.geteuid() == 0
    if as_root and ACCOUNT not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip(f"running as root and there is no account {ACCOUNT}")
    prefix = ["runuser", "-u", ACCOUNT, "--"] if as_root else []
    folder, port = Path(tempfile.mkdtemp(prefix="promlike-postgres-")), free_port()
    if as_root:
        shutil.chown(folder, ACCOUNT)
    run = [*prefix, str(programs / "initdb"), "-D", str(folder / "data"), "-A", "trust", "-U", ACCOUNT, "--no-sync"]
    subprocess.run(run, check=True, capture_output=True, cwd=folder)
    own = ["listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={folder}", "fsync=off"]
    options = " ".join(f"-c {setting}" for setting in (*own, *settings))
    control = [*prefix, str(programs / "pg_ctl"), "-D", str(folder / "data"), "-w"]
    server = Postgres(port=port, folder=folder, control=control, options=options)
    try:
        server.start()
        yield server
    finally:
        server.end()
        shutil.rmtree(folder)
