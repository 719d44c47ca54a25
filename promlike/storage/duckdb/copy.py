"""A copy of a database's file."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import duckdb


def copy_database(path: Path, folder: Path, config: Mapping[str, str | bool | int | float | list[str]]) -> None:
    """Copy a database that nobody writes to into a new folder, as one file; the folder is there whole or not at all. Raises OSError."""
    unfinished = folder.with_name(f".{folder.name}")
    unfinished.mkdir(parents=True)
    try:
        copied = unfinished / path.name
        shutil.copyfile(path, copied)
        log = path.with_name(f"{path.name}.wal")
        if log.exists():
            shutil.copyfile(log, copied.with_name(log.name))
        duckdb.connect(copied, config=dict(config)).close()  # brings the log into the file, and finds out whether it can be opened
        _sync(copied)
        _sync(unfinished)
        unfinished.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
