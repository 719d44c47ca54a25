"""What an error means over HTTP: one table from the error tree to status and errorType."""

from collections.abc import Iterator
from contextlib import contextmanager

from promlike.errors import (
    BadRequest,
    NotFound,
    NotReady,
    Overloaded,
    PayloadTooLarge,
    PromlikeError,
    QueryCancelled,
    QueryError,
    QueryTimeout,
    StorageError,
    StorageUnavailable,
    UnsupportedMediaType,
)


class AdminDisabled(PromlikeError):
    """The flag that allows administrative calls was not given."""


class SqlDisabled(PromlikeError):
    """The flag that allows SQL was not given."""


STATUSES: dict[type[BaseException], tuple[int, str]] = {
    BadRequest: (400, "bad_data"),
    PayloadTooLarge: (413, "bad_data"),
    UnsupportedMediaType: (415, "bad_data"),
    NotFound: (404, "not_found"),
    QueryError: (422, "execution"),
    Overloaded: (503, "unavailable"),
    QueryTimeout: (503, "timeout"),
    QueryCancelled: (503, "canceled"),
    AdminDisabled: (503, "unavailable"),
    SqlDisabled: (503, "unavailable"),
    NotReady: (503, "unavailable"),
    StorageUnavailable: (503, "unavailable"),
    StorageError: (500, "internal"),
    PromlikeError: (500, "internal"),
    Exception: (500, "internal"),
}
"""The nearest class in an error's ancestry decides."""


def status_of(error: Exception) -> tuple[int, str]:
    """HTTP status and errorType."""
    return next(STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES)


class InvalidParameter(BadRequest):
    """A request parameter is wrong."""

    def __init__(self, name: str, reason: object) -> None:
        super().__init__(f'invalid parameter "{name}": {reason}')


@contextmanager
def parameter(name: str) -> Iterator[None]:
    """Say which parameter a BadRequest raised inside is about."""
    try:
        yield
    except InvalidParameter:
        raise
    except BadRequest as error:
        raise InvalidParameter(name, error) from error
