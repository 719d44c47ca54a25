"""What the documents say is so: flags, commands, files and limits that README names exist."""

import re
from pathlib import Path

import pytest

from promlike.api.params import MAX_POINTS
from promlike.cli.flags import SERVE_FLAGS
from promlike.promql.ast_json import MAX_LEVELS
from promlike.promql.lexer import MAX_NESTING, MAX_OPERATORS
from promlike.promql.tree.parts import MAX_DEPTH
from promlike.remote_write.decompress import MAX_DECODED_BYTES
from promlike.storage.options import StorageOptions

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
FLAGS = {flag.name: flag for flag in SERVE_FLAGS}
ROWS = re.findall(r"^\| (`--[^|]*) \|([^|]*)\|", README, re.MULTILINE)
"""First and second column of the table of flags."""


def test_every_flag_readme_names_is_acted_on() -> None:
    named = set(re.findall(r"--(?:no-)?((?:web|storage|query|cache|config|log|enable)[.\-][\w.\-]*\w)", README))
    assert named
    assert not {name for name in named if name not in FLAGS}
    table = set(re.findall(r"`--(?:no-)?([\w.\-]+)`", " ".join(names for names, _ in ROWS)))
    assert table == {flag.name for flag in SERVE_FLAGS if flag.acted_on}


@pytest.mark.parametrize(("names", "defaults"), ROWS)
def test_the_defaults_of_the_table_are_the_real_ones(names: str, defaults: str) -> None:
    real = [FLAGS[name].default for name in re.findall(r"`--(?:no-)?([\w.\-]+)`", names)]
    words = {"true": "on", "false": "off"}
    shown = [part.strip("`") for part in defaults.strip().split(", ") if part]
    assert shown == [words.get(default, default) for default in real if default]


@pytest.mark.parametrize(
    "said",
    [
        f"may open {MAX_NESTING:,} parentheses",
        f"have {MAX_OPERATORS:,} operators",
        f"may have {MAX_DEPTH:,} levels",
        f"up to {MAX_LEVELS} levels",
        f"may have {MAX_DECODED_BYTES >> 20} MiB once decoded",
        f"at most {MAX_POINTS:,} points a series",
        f"more than {StorageOptions(data_dir=Path()).future_limit_ms // 60_000} minutes ahead",
    ],
)
def test_limits_are_said_as_they_are(said: str) -> None:
    assert said in " ".join(README.split())


def test_links_of_documents_lead_somewhere() -> None:
    for document in ROOT.glob("**/*.md"):
        if ".venv" not in document.parts:
            for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text()):
                assert (document.parent / target).exists(), f"{document.relative_to(ROOT)}: {target}"


def test_readme_calls_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = set(re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE))
    assert {"run", "test", "bench"} <= called <= targets
