"""`promlike check config FILE…`: say what is wrong with configuration files before a server reads them."""

import sys
from collections.abc import Sequence

from promlike.config.load import load_config
from promlike.errors import ConfigError
from promlike.retention import keep_options


def check(words: Sequence[str]) -> int:
    """Exit code: 1 when a file has a problem."""
    if len(words) < 2 or words[0] != "config":
        print("usage: promlike check config FILE…", file=sys.stderr)
        return 2
    return max(_check_config(file) for file in words[1:])


def _check_config(file: str) -> int:
    print(f"Checking {file}", flush=True)  # before what goes to the other stream
    try:
        config = load_config(file)
        keep_options(config)
    except ConfigError as error:
        for problem in error.problems:
            print(f"  FAILED: {problem}", file=sys.stderr)
        return 1
    for warning in config.warnings:
        print(f"  WARNING: {warning}", file=sys.stderr)
    print(f"  SUCCESS: {file} is valid, {len(config.scrape_configs)} scrape configurations")
    return 0
