"""The house: layers import downward only, kernels are registered, errors are caught where that is allowed."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from promlike.kernel import KERNEL_MODULES

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "promlike"

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "kernel", "__init__"}),
    frozenset({"model"}),
    frozenset({"cache"}),
    frozenset({"storage", "config"}),
    frozenset({"promql", "remote_write", "search"}),
    frozenset({"scrape", "remote_read"}),
    frozenset({"api", "process", "retention"}),
    frozenset({"app"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
"""From the ground up. A module imports its own package and what stands in a lower layer, lazy imports counted."""

CATCH_ALL_ALLOWED = frozenset({"api/routes.py", "api/streaming.py", "scrape/loop.py", "scrape/service.py"})
"""Where errors become responses, and loops that must outlive one failed round. Elsewhere, who catches everything raises it again."""

SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if not path.name.endswith("_pb2.py"))


def _part(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, part of promlike) of every import in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [f"{node.module}.{alias.name}" if node.module == "promlike" else node.module or "" for alias in node.names]
        )
        for name in names:
            parts = name.split(".")
            if parts[0] == "promlike":
                part = parts[1] if len(parts) > 1 else "__init__"
                yield node.lineno, part if any(part in layer for layer in LAYERS) else "__init__"


def test_every_part_has_a_layer() -> None:
    parts = {_part(path) for path in SOURCES}
    assert parts == {part for layer in LAYERS for part in layer}


def test_imports_run_downward() -> None:
    height = {part: level for level, layer in enumerate(LAYERS) for part in layer}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {part}"
        for path in SOURCES
        for line, part in _imports(path)
        if part != _part(path) and height[part] >= height[_part(path)]
    ]
    assert not wrong


def test_promql_and_model_know_no_database() -> None:
    """PromQL reads through the protocols of storage/access.py alone."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in SOURCES
        if _part(path) in ("promql", "model")
        for module in re.findall(r"^\s*(?:from|import) (promlike\.storage[\w.]*|duckdb|asyncpg)", path.read_text(), re.MULTILINE)
        if module != "promlike.storage.access"
    ]
    assert not wrong


def test_every_module_with_kernels_is_registered() -> None:
    with_kernels = {
        "promlike." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in SOURCES
        if re.search(r"^@kernel\(", path.read_text(), re.MULTILINE)
    }
    assert with_kernels == set(KERNEL_MODULES)
    assert len(KERNEL_MODULES) == len(set(KERNEL_MODULES))


def test_kernels_call_kernels_of_their_own_file_only() -> None:
    """Numba's on-disk cache notices changes of one file."""
    for name in KERNEL_MODULES:
        module = import_module(name)
        foreign = {key for key, value in vars(module).items() if hasattr(value, "py_func") and value.py_func.__module__ != name}
        for function in ast.walk(ast.parse(Path(module.__file__ or "").read_text())):
            compiled = isinstance(function, ast.FunctionDef) and any(
                ast.unparse(decorator).startswith(("kernel", "inlined")) for decorator in function.decorator_list
            )
            called = {node.func.id for node in ast.walk(function) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
            assert not (compiled and called & foreign), f"{name}: {ast.unparse(function).splitlines()[0]} calls {called & foreign}"


def test_everything_is_caught_only_where_that_is_allowed() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        if str(path.relative_to(PACKAGE)) not in CATCH_ALL_ALLOWED
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        and not any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
    ]
    assert not wrong


@pytest.mark.parametrize("document", ["ARCHITECTURE.md"])
def test_the_packages_a_document_names_exist(document: str) -> None:
    named = set(re.findall(r"`((?:promlike|tests|bench|proto|config)/[\w./]*)`", (ROOT / document).read_text()))
    assert named
    assert not {name for name in named if not (ROOT / name).exists()}
