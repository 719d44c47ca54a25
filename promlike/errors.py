"""The error tree, ordered by blame. `api/errors.py` maps each class to Prometheus's errorType and HTTP status."""

from enum import StrEnum


class PromlikeError(Exception):
    """Root of every error that promlike raises on purpose."""


class BadRequest(PromlikeError):
    """The caller's input is wrong: errorType `bad_data`, 400. The message names the value, where it stood and the limit."""


class ParseError(BadRequest):
    """PromQL that does not parse or type-check. `line` and `column` count from 1; the text is `L:C: parse error: …`."""

    def __init__(self, message: str, *, line: int, column: int) -> None:
        super().__init__(f"{line}:{column}: parse error: {message}")
        self.message = message
        self.line = line
        self.column = column


class ConfigError(PromlikeError):
    """A configuration or rule file is invalid. Carries every problem found, each with its file and line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class PayloadTooLarge(BadRequest):
    """A body over its limit: 413."""


class UnsupportedMediaType(BadRequest):
    """A body in a format that is not read here: 415."""


class NotFound(PromlikeError):
    """errorType `not_found`, 404."""


class QueryError(PromlikeError):
    """A query that parsed but cannot be answered: errorType `execution`, 422."""


class TooManySamples(QueryError):
    """The query would load more samples than --query.max-samples allows."""


class TooMuchMemory(QueryError):
    """The query would hold more bytes than its budget allows."""


class Overloaded(PromlikeError):
    """Other queries leave no room for one more now: errorType `unavailable`, 503; asking again later may help."""


class MemoryInUse(Overloaded):
    """Other queries hold the memory that this one needs: so many bytes in all."""

    def __init__(self, message: str, *, needed: int) -> None:
        super().__init__(message)
        self.needed = needed


class QueryTimeout(PromlikeError):
    """The deadline passed: errorType `timeout`, 503."""


class QueryCancelled(PromlikeError):
    """The client went away: errorType `canceled`, 503."""


class StorageError(PromlikeError):
    """The store failed: errorType `internal`, 500."""


class StorageUnavailable(StorageError):
    """Cannot take writes now (disk full, WAL failed): 503, the sender retries."""


class StorageConflict(StorageUnavailable):
    """Another transaction was in the way; the same again may succeed at once."""


class StoreAway(StorageUnavailable):
    """The store cannot be reached or does not answer."""


class SelectionChanged(StorageError):
    """Samples that were to be read later cannot be any more, because they moved from the head to the store; fetch again, whole."""


class NotReady(PromlikeError):
    """The server is starting or stopping: 503."""


class RejectReason(StrEnum):
    """Why a series or sample was refused; the value is the `reason` label of the counter."""

    MISSING_METRIC_NAME = "missing_metric_name"
    INVALID_LABEL_NAME = "invalid_label_name"
    INVALID_LABEL_VALUE = "invalid_label_value"
    DUPLICATE_LABEL_NAME = "duplicate_label_name"
    INVALID_LABEL_REFERENCE = "invalid_label_reference"
    LABELS_TOO_LONG = "labels_too_long"
    METRIC_NAME_TOO_LONG = "metric_name_too_long"
    EXEMPLAR_LABELS_TOO_LONG = "exemplar_labels_too_long"
    NATIVE_HISTOGRAM = "native_histogram"
    TOO_MANY_SERIES = "too_many_series"
    TOO_OLD = "too_old"
    TOO_FAR_IN_FUTURE = "too_far_in_future"


class SampleRejected(PromlikeError):
    """One series or sample was refused; the valid ones beside it are kept."""

    def __init__(self, reason: RejectReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
