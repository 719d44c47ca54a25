"""Reading the trees of traces."""

import re
from collections.abc import Iterator
from typing import Any

Tree = dict[str, Any]


def steps(tree: Tree) -> Iterator[Tree]:
    """All of them, the outermost first."""
    yield tree
    for child in tree.get("children", ()):
        yield from steps(child)


def messages(tree: Tree, start: str) -> list[str]:
    """Those that begin so, in order."""
    return [step["message"] for step in steps(tree) if step["message"].startswith(start)]


def number(tree: Tree, start: str, name: str) -> int:
    """What the only step whose message begins so says of something."""
    (message,) = messages(tree, start)
    found = [int(text) for text in re.findall(rf"\b{name}=(\d+)\b", message)]
    return found[0]
