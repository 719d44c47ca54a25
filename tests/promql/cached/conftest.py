"""Databases, as tests of storage have them."""

from tests.storage.conftest import database, timescale_server

__all__ = ["database", "timescale_server"]
