"""Where copies of the store are kept: `snapshots/NAME` in the data folder, `snapshots/.NAME` until a copy is whole."""

import logging
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path

log = logging.getLogger(__name__)

FOLDER = "snapshots"


def new_snapshot(data_dir: Path) -> Path:
    """A folder that is not there yet."""
    return data_dir / FOLDER / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(8)}"


def draft_of(snapshot: Path) -> Path:
    """The folder that becomes the snapshot once it is whole."""
    return snapshot.with_name(f".{snapshot.name}")


def remove_drafts(data_dir: Path) -> None:
    """Delete copies that were being made when the process ended. Raises OSError."""
    for draft in (data_dir / FOLDER).glob(".*"):
        log.warning("a snapshot was not finished and is deleted: %s", draft)
        shutil.rmtree(draft)
