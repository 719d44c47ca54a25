"""One process at a time owns a data folder."""

import fcntl
import os
from pathlib import Path

from promlike.errors import StorageError


class FolderLock:
    """An advisory lock on `folder/lock`; the system lets go of it when the process ends, however that happens."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._handle: int | None = None

    def acquire(self) -> None:
        """Raise StorageError when another process (or another storage of this one) has the folder."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise StorageError(f"the data folder {self._path.parent} is in use by another process") from error
        self._handle = handle

    def release(self) -> None:
        """Idempotent."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
