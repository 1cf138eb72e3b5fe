# SPDX-License-Identifier: Apache-2.0
"""The repository's own files, as the tests of this folder read them."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
GENERATED_MARK = "generated"


@cache
def tracked_files() -> tuple[Path, ...]:
    """What git knows or would add. Deleted files are left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    paths = (ROOT / name.decode() for name in listed.split(b"\0") if name)
    return tuple(sorted(path for path in paths if path.is_file()))


def python_sources(directory: Path = ROOT) -> list[Path]:
    """The Python files below a directory."""
    return [
        path for path in tracked_files() if path.suffix == ".py" and path.is_relative_to(directory)
    ]


def is_generated(path: Path) -> bool:
    """Whether the file's first lines say that a tool wrote it."""
    return any(GENERATED_MARK in line for line in path.read_text().splitlines()[:3])


def imports_of(path: Path) -> list[str]:
    """Full names of all modules imported anywhere in the file; `from a import b` counts as `a.b` where that is one."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [_module_or_member(node.module, alias.name) for alias in node.names]
    return names


def _module_or_member(module: str, member: str) -> str:
    for source in (ROOT / "sdk" / "src", ROOT / "server" / "src"):
        place = source.joinpath(*module.split("."), member)
        if place.with_suffix(".py").exists() or place.is_dir():
            return f"{module}.{member}"
    return module
