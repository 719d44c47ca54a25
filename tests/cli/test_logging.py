"""Log lines."""

import json
import logging

from promlike.cli.logging import JsonFormatter, LogfmtFormatter


def _record(message: str, **extra: object) -> logging.LogRecord:
    record = logging.makeLogRecord({"name": "promlike.app", "levelno": logging.WARNING, "msg": message, "created": 1.5})
    vars(record).update(extra)
    return record


def test_logfmt_quotes_what_needs_it() -> None:
    line = LogfmtFormatter().format(_record("two words", address="0.0.0.0:9090", text='a"b', nothing=""))
    assert line == (r'time=1970-01-01T00:00:01.500Z level=warn source=app msg="two words" address=0.0.0.0:9090 text="a\"b" nothing=""')


def test_json_holds_the_same_pairs() -> None:
    line = JsonFormatter().format(_record("ready", seconds=2))
    assert json.loads(line) == {"time": "1970-01-01T00:00:01.500Z", "level": "warn", "source": "app", "msg": "ready", "seconds": "2"}
