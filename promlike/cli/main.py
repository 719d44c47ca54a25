"""`promlike [serve|check|query]`: chooses the command; `serve` when the first word is a flag or there is none."""

import sys
from collections.abc import Callable, Sequence

from promlike import __version__
from promlike.cli.flags import flags_help

USAGE = """usage: promlike [serve] [flags]                     run the server
       promlike check config FILE…                 check configuration files
       promlike query instant URL EXPR             evaluate at one time: [--time=TIME]
       promlike query range URL EXPR               evaluate over a range: --start=TIME [--end=TIME] [--step=DURATION]
       promlike --version | --help
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 the command line is wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--version"]:
        print(f"promlike, version {__version__}")
        return 0
    if words[:1] in (["--help"], ["-h"], ["help"]) or words[:2] in (["serve", "--help"], ["serve", "-h"]):
        print(USAGE + "\nFlags of serve:\n" + flags_help())
        return 0
    command = words[0] if words and not words[0].startswith("-") else "serve"
    run = COMMANDS.get(command)
    if run is None:
        print(f"promlike: unknown command {command!r}\n\n{USAGE}", file=sys.stderr, end="")
        return 2
    return run(words[1:] if words[:1] == [command] else words)


def _serve(words: Sequence[str]) -> int:
    from promlike.cli.serve import serve  # each command imports only what it needs: `check` must not wait for the server's imports

    return serve(words)


def _check(words: Sequence[str]) -> int:
    from promlike.cli.check import check  # as above

    return check(words)


def _query(words: Sequence[str]) -> int:
    from promlike.cli.query import query  # as above

    return query(words)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {"serve": _serve, "check": _check, "query": _query}
