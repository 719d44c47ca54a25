"""Bringing a file to the schema that this promlike knows: numbered steps, each applied once, all in one transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import duckdb

from promlike.errors import StorageError
from promlike.storage.duckdb import macros, packed, views
from promlike.storage.duckdb.schema import EXEMPLARS, FIRST_TABLES, FLUSHES, ROLLUP_TABLES, STRAYS

_VERSION = "SELECT value FROM state WHERE key = 'schema_version'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A step from version - 1 to `version`. Once released, a step is never changed."""

    version: int
    name: str
    statements: Sequence[str]
    convert: Callable[[duckdb.DuckDBPyConnection], None] | None = None
    """What statements cannot do; runs after them."""


MIGRATIONS: tuple[Migration, ...] = (
    Migration(version=1, name="series, samples, metadata, state", statements=FIRST_TABLES),
    Migration(version=2, name="views for people", statements=views.STATEMENTS),
    Migration(version=3, name="macros for people", statements=macros.STATEMENTS),
    Migration(version=4, name="exemplars", statements=EXEMPLARS),
    Migration(version=5, name="rollup tiers", statements=ROLLUP_TABLES),
    Migration(version=6, name="what flushes changed", statements=FLUSHES),
    Migration(version=7, name="packed rollup tiers", statements=packed.STATEMENTS, convert=packed.pack_old_rows),
    Migration(version=8, name="nothing of series that are gone", statements=STRAYS),
    Migration(version=9, name="views that name the schema of tables", statements=views.MAKE_AGAIN),
)
"""In order, from 1, without gaps. New steps go to the end."""


def migrate(connection: duckdb.DuckDBPyConnection, file: str, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Apply what is missing; all or nothing. Raises StorageError when the file is newer than `migrations`."""
    found = schema_version(connection)
    if found > len(migrations):
        raise StorageError(f"{file} has schema version {found}, this promlike knows versions up to {len(migrations)}")
    if found == len(migrations):
        return
    connection.execute("BEGIN")
    try:
        for migration in migrations[found:]:
            for statement in migration.statements:
                connection.execute(statement)
            if migration.convert is not None:
                migration.convert(connection)
        connection.execute("DELETE FROM state WHERE key = 'schema_version'")
        connection.execute("INSERT INTO state VALUES ('schema_version', $1)", [len(migrations)])
        connection.execute("COMMIT")
    except duckdb.Error:
        connection.execute("ROLLBACK")
        raise


def schema_version(connection: duckdb.DuckDBPyConnection) -> int:
    """The version of the file's schema, 0 for a new file."""
    tables = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'state'").fetchall()
    found = connection.execute(_VERSION).fetchall() if tables[0][0] else []
    return int(found[0][0]) if found else 0
