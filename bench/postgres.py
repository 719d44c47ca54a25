"""A PostgreSQL with TimescaleDB for a benchmark: in a temporary folder, on a free loopback port, with every commit synced to disk."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.servers import Usage, ended_cpu_seconds, free_port, process_usage

ACCOUNT = "postgres"
SETTINGS = ("shared_preload_libraries=timescaledb", "timescaledb.telemetry_level=off", "max_wal_size=8GB")
"""Beyond these it is as `initdb` makes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A running server; `folder` has its data and its log."""

    url: str
    folder: Path

    def usage(self) -> Usage:
        """Of all its processes, those that have ended included; memory that they share counts once for each."""
        main = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        cpu_seconds, rss_bytes = ended_cpu_seconds(main), 0
        for pid in (main, *map(int, Path(f"/proc/{main}/task/{main}/children").read_text().split())):
            try:
                usage = process_usage(pid)
            except (FileNotFoundError, ProcessLookupError, KeyError):
                continue  # it has ended meanwhile
            cpu_seconds += usage.cpu_seconds
            rss_bytes += usage.rss_bytes
        return Usage(cpu_seconds=cpu_seconds, rss_bytes=rss_bytes, peak_rss_bytes=rss_bytes)


@contextmanager
def postgres(folder: Path | None = None) -> Iterator[Postgres]:
    """Start a server below `folder` (default: the temporary folder); stop it and remove its data at the end."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if not programs:
        raise RuntimeError("PostgreSQL is not installed; name a database instead")
    # PostgreSQL does not start as root.
    prefix = ["runuser", "-u", ACCOUNT, "--"] if os.geteuid() == 0 else []
    home, port = Path(tempfile.mkdtemp(prefix="bench-postgres-", dir=folder)), free_port()
    if prefix:
        shutil.chown(home, ACCOUNT)
    own = (f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={home}", *SETTINGS)
    control = [*prefix, str(programs[-1].with_name("pg_ctl")), "-D", str(home / "data"), "-w"]
    initdb = [*prefix, str(programs[-1].with_name("initdb")), "-D", str(home / "data"), "-A", "trust", "-U", ACCOUNT]
    try:
        subprocess.run(initdb, check=True, capture_output=True, cwd=home)
        command = [*control, "-o", " ".join(f"-c {setting}" for setting in own), "-l", str(home / "log"), "start"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=home)
        try:
            yield Postgres(url=f"postgresql://{ACCOUNT}@127.0.0.1:{port}/postgres", folder=home)
        finally:
            subprocess.run([*control, "-m", "fast", "stop"], check=True, stdout=subprocess.DEVNULL, cwd=home)
    finally:
        shutil.rmtree(home, ignore_errors=True)
