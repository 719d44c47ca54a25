"""Who writes: an id that is kept in the data folder, so that a database which several daemons share knows whose WAL is whose."""

import os
from pathlib import Path
from uuid import UUID, uuid4

from promlike.errors import StorageError

FILE = "writer_id"


def read_writer_id(folder: Path) -> tuple[UUID, bool]:
    """The id of a data folder, made when there is none, and whether it was made now. Raises StorageError when the file holds no id."""
    path = folder / FILE
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        return _make(path), True
    try:
        return UUID(text), False
    except ValueError as error:
        raise StorageError(f"{path} holds {text[:40]!r}, which is no id of a writer") from error


def _make(path: Path) -> UUID:
    """Write a new id; it is on disk, as a whole, before it is used."""
    made = uuid4()
    draft = path.with_suffix(".new")
    with draft.open("w") as file:
        file.write(f"{made}\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return made
