"""Who may read with SQL: the schema of the views, and the role that reads them and our tables."""

import logging
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships annotations but no py.typed marker

from promlike.storage.timescale.connection import quote_name
from promlike.storage.timescale.views import view_schema

log = logging.getLogger(__name__)

READER = "promlike_reader"

MAY_CREATE_ROLES = "SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user"
ROLE_EXISTS = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)"


async def prepare_view_schema(connection: Any, schema: str, *, tell: bool) -> bool:
    """Make the schema of the views; False when this user may not, which the log says if it is to `tell`."""
    quoted = quote_name(view_schema(schema))
    if not await connection.fetchval("SELECT to_regnamespace($1) IS NULL", quoted):
        return True
    try:
        async with connection.transaction():
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
    except asyncpg.InsufficientPrivilegeError:
        if tell:
            user = quote_name(await connection.fetchval("SELECT current_user"))
            log.warning(
                "metrics get no views: this user may not create the schema. It needs: CREATE SCHEMA %s AUTHORIZATION %s", quoted, user
            )
        return False
    return True


async def prepare_reader(connection: Any, schema: str) -> None:
    """Make the role that may read and let it read; says once what somebody else has to run when this user may not."""
    if not await connection.fetchval(ROLE_EXISTS, READER):
        if not await connection.fetchval(MAY_CREATE_ROLES):
            log.info(
                "there is no role %s for people who only read, and this user may not create it. It needs: CREATE ROLE %s; %s",
                READER,
                READER,
                "; ".join(grants(schema)),
            )
            return
        try:
            async with connection.transaction():
                # With this user as a member, as whom it answers SQL over HTTP.
                await connection.execute(f"CREATE ROLE {READER} NOLOGIN ROLE CURRENT_USER")
        except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            log.debug("another server has just created the role %s", READER)
    if await connection.fetchval("SELECT has_schema_privilege($1, $2, 'USAGE')", READER, view_schema(schema)):
        return
    try:
        async with connection.transaction():
            for statement in grants(schema):
                await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError as error:
        log.warning("the role %s cannot be allowed to read: %s", READER, error)


def grants(schema: str) -> list[str]:
    """What lets the role read everything of a store, views that come later included."""
    schemas = [quote_name(schema), quote_name(view_schema(schema))]
    return [
        f"GRANT USAGE ON SCHEMA {', '.join(schemas)} TO {READER}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {', '.join(schemas)} TO {READER}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {', '.join(schemas)} GRANT SELECT ON TABLES TO {READER}",
    ]
