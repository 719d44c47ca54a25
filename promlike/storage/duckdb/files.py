"""A database's file: made, or copied, as a whole or not at all."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import duckdb

from promlike.storage.snapshots import draft_of

Settings = Mapping[str, str | bool | int | float | list[str]]


def make_database(path: Path, config: Settings) -> None:
    """Make an empty database where there is none. Raises OSError.

    DuckDB makes a file first and writes its header then; a process that ended in between would leave a file that nobody can open.
    """
    if path.exists() and path.stat().st_size:
        return
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    duckdb.connect(draft, config=dict(config)).close()
    _sync(draft)
    draft.rename(path)
    _sync(path.parent)


def copy_database(path: Path, folder: Path, config: Settings) -> None:
    """Copy a database that nobody writes to into a new folder, as one file; the folder is there whole or not at all. Raises OSError."""
    unfinished = draft_of(folder)
    unfinished.mkdir(parents=True)
    try:
        copied = unfinished / path.name
        _copy_file(path, copied)
        log = path.with_name(f"{path.name}.wal")
        if log.exists():
            _copy_file(log, copied.with_name(log.name))
        duckdb.connect(copied, config=dict(config)).close()  # brings the log into the file, and finds out whether it can be opened
        _sync(copied)
        _sync(unfinished)
        unfinished.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _copy_file(source: Path, target: Path) -> None:
    """Copy a file in a process of its own: if this one opened and closed it, DuckDB's lock on it would be gone, as POSIX has it, and others
    could write into a database that is in use.
    """
    code = "import shutil, sys; shutil.copyfile(*sys.argv[1:])"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, source, target], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"cannot copy {source}: {(done.stderr.splitlines() or ['the copying process was ended'])[-1]}")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
