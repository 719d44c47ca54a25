"""Log lines as logfmt or JSON on standard error: time, level, message, and the pairs given as `extra`."""

import logging
import sys
from datetime import UTC, datetime

import orjson
from aiohttp.http_exceptions import HttpProcessingError

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_LEVEL_NAMES = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warn", logging.ERROR: "error", logging.CRITICAL: "error"}
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _fields(record: logging.LogRecord, formatter: logging.Formatter) -> dict[str, str]:
    """The pairs of one line, in order."""
    fields = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": _LEVEL_NAMES.get(record.levelno, "info"),
        "source": record.name.removeprefix("promlike."),
        "msg": record.getMessage(),
    }
    fields.update({key: str(value) for key, value in vars(record).items() if key not in _OWN})
    if record.exc_info:
        fields["trace"] = formatter.formatException(record.exc_info)
    return fields


class MalformedRequestFilter(logging.Filter):
    """Leaves out what aiohttp logs about bytes that are no request: anybody can send them by the thousand, and each has a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


class LogfmtFormatter(logging.Formatter):
    """`time=… level=info msg="…" key=value`"""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_quoted(value)}" for key, value in _fields(record, self).items())


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return orjson.dumps(_fields(record, self)).decode()


def _quoted(text: str) -> str:
    plain = text and text.isprintable() and not any(char in ' "=' for char in text)
    return text if plain else orjson.dumps(text).decode()


def configure_logging(*, level: str, log_format: str) -> None:
    """Send every log line of the process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else LogfmtFormatter())
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").addFilter(MalformedRequestFilter())
    logging.getLogger("numba").setLevel(logging.WARNING)
