# SPDX-License-Identifier: Apache-2.0
"""House rules about files: sizes, licence lines, exports, generated files, what must not be named."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.repo.tree import ROOT, is_generated, python_sources, tracked_files

MAX_FILE_LINES = 800
MAX_FUNCTION_LINES = 70
LICENCE = "SPDX-License-Identifier: Apache-2.0"
CODE_SUFFIXES = (".py", ".rs", ".sh")

# Hosts of package registries; in pieces, so that this file does not name them either.
REGISTRY_HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("py" + "pi", "org"),
        ("files", "python" + "hosted"),
        ("registry", "npm" + "js"),
        ("deb", "deb" + "ian"),
        ("security", "deb" + "ian"),
        ("snapshot", "deb" + "ian"),
        ("static", "crates"),
        ("index", "crates"),
        ("crates", "io"),
        ("proxy", "golang"),
    )
)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [p for p in python_sources() if not is_generated(p)], ids=relative)
def test_python_file_stays_within_its_budget(path: Path) -> None:
    text = path.read_text()
    lines = text.count("\n")
    functions = {
        f"{node.name}, line {node.lineno}": (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    long = {name: size for name, size in functions.items() if size > MAX_FUNCTION_LINES}

    assert lines <= MAX_FILE_LINES
    assert not long


def test_rust_files_stay_within_their_budget() -> None:
    sizes = {relative(p): p.read_text().count("\n") for p in tracked_files() if p.suffix == ".rs"}
    assert {name: size for name, size in sizes.items() if size > MAX_FILE_LINES} == {}


def test_code_names_its_licence() -> None:
    without = [
        relative(path)
        for path in tracked_files()
        if path.suffix in CODE_SUFFIXES
        and path.stat().st_size
        and not any(LICENCE in line for line in path.read_text().splitlines()[:3])
    ]
    assert not without


def test_no_package_registry_is_named() -> None:
    named = []
    for path in tracked_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        named += [f"{relative(path)}: {host}" for host in REGISTRY_HOSTS if host in text]
    assert not named


def test_public_names_are_sorted_and_exist() -> None:
    import atoll

    assert list(atoll.__all__) == sorted(atoll.__all__)
    assert [name for name in atoll.__all__ if not hasattr(atoll, name)] == []


def test_sync_client_is_what_the_async_one_generates() -> None:
    command = [sys.executable, "tools/unasync.py", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_reference_pages_are_up_to_date() -> None:
    command = [sys.executable, "tools/reference.py", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_agent_depends_on_no_crate() -> None:
    lock = tomllib.loads((ROOT / "agent" / "Cargo.lock").read_text())
    assert [package["name"] for package in lock["package"] if "source" in package] == []
    assert [
        package["name"] for package in lock["package"] if not package["name"].startswith("atoll")
    ] == []


def test_requirements_are_pinned() -> None:
    loose = [
        f"{path.name}: {line}"
        for path in (ROOT / "requirements").glob("*.txt")
        for line in path.read_text().splitlines()
        if line
        and not line.startswith(("#", "-r "))
        and not re.fullmatch(r"[\w.-]+==[\w.+!-]+", line)
    ]
    assert not loose
