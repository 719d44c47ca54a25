"""DuckDB's errors as promlike's, told apart by class."""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no type information

from promlike.errors import StorageError, StorageUnavailable

_MAY_PASS = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.FatalException, duckdb.InterruptException, duckdb.TransactionException)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise StorageUnavailable for what may pass (disk full, no memory), StorageError for the rest."""
    try:
        yield
    except _MAY_PASS as error:
        raise StorageUnavailable(f"DuckDB cannot {doing} now: {error}") from error
    except duckdb.Error as error:
        raise StorageError(f"DuckDB cannot {doing}: {error}") from error
    except pa.ArrowException as error:
        raise StorageError(f"cannot {doing}: {error}") from error
    except OSError as error:
        raise StorageUnavailable(f"cannot {doing}: {error}") from error
