"""What importing a part loads: the sans-IO core must be usable without an event loop, a socket or ZooKeeper."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

SOURCE: Final = Path(__file__).parents[2] / "src" / "metaq"
OUTSIDE: Final = {"asyncio", "socket", "ssl", "selectors", "threading", "uvloop", "kazoo", "click", "rich"}


def loaded_by(module: str) -> set[str]:
    """Return the names of the modules that a fresh interpreter has loaded after importing this one only."""
    script = f"import sys; before = set(sys.modules); import {module}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True, timeout=30)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["metaq.protocol.decoder", "metaq.protocol.encoder", "metaq.record"])
def test_the_protocol_loads_nothing_that_reaches_outside(module: str) -> None:
    assert loaded_by(module) & OUTSIDE == set()


def test_the_protocol_loads_only_what_lies_below_it() -> None:
    groups = {name.split(".")[1] for name in loaded_by("metaq.protocol.encoder") if name.startswith("metaq.")}
    assert groups <= {"protocol", "record", "model", "txid", "errors", "_version"}


def test_the_root_loads_the_client_only_when_asked() -> None:
    assert {name for name in loaded_by("metaq") if name.startswith("metaq.")} <= {"metaq._version"}


def root_imports(source: str) -> list[int]:
    """Return the lines that import the package root itself."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import) and any(alias.name == "metaq" for alias in node.names):
            lines.append(node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module == "metaq" and not node.level:
            # `from metaq import store` names a part, `from metaq import connect` a name of the root
            lines += [node.lineno for alias in node.names if not is_part(alias.name)]
    return lines


def is_part(name: str) -> bool:
    return (SOURCE / f"{name}.py").exists() or (SOURCE / name).is_dir()


def test_nobody_inside_imports_the_package_root() -> None:
    found = [
        f"{module.relative_to(SOURCE)}:{line}"
        for module in sorted(SOURCE.rglob("*.py"))
        if module != SOURCE / "__init__.py"
        for line in root_imports(module.read_text("utf-8"))
    ]
    assert not found, found


def test_an_import_of_the_root_is_noticed() -> None:
    assert root_imports("import metaq\nfrom metaq import connect\nfrom metaq import errors\nimport metaq.errors\n") == [
        1,
        2,
    ]
