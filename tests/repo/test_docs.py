# SPDX-License-Identifier: Apache-2.0
"""The documentation mentions everything there is, and nothing that is not."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from tests.repo.tree import ROOT, python_sources, tracked_files

PAGES = [path for path in tracked_files() if path.suffix == ".md"]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def read(name: str) -> str:
    return (ROOT / name).read_text()


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_page_links_to_what_exists(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)(?:#[^)]*)?\)", path.read_text())
    inside = [link for link in links if link and "://" not in link]
    assert [link for link in inside if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_page_names_only_targets_of_the_makefile(path: Path) -> None:
    text = path.read_text()
    named = re.findall(r"(?:`|^ {4})make ([a-z-]+)", text, re.MULTILINE)
    assert set(named) - make_targets() == set()


def test_every_setting_is_documented() -> None:
    from atoll_server.settings import Settings

    page = read("docs/reference/settings.md")
    missing = [
        field.name for field in fields(Settings) if f"ATOLL_{field.name.upper()}" not in page
    ]
    assert not missing


def test_every_variable_of_the_client_is_documented() -> None:
    page = read("docs/reference/settings.md")
    named = set(re.findall(r'"(ATOLL_[A-Z_]+)"', read("sdk/src/atoll/_config.py")))
    assert named
    assert {name for name in named if name not in page} == set()


def test_every_error_code_is_documented() -> None:
    from atoll_server.api.errors import STATUS_BY_CODE

    page = read("docs/reference/errors.md")
    codes = set(re.findall(r'code = "([A-Z_]+)"', read("sdk/src/atoll/errors.py"))) - {"ERROR"}
    assert {code for code in codes | STATUS_BY_CODE.keys() if f"`{code}`" not in page} == set()


def test_every_route_is_documented() -> None:
    from atoll_server.api.native import OPERATIONS

    page = read("docs/reference/http.md")
    missing = [o.name for o in OPERATIONS if f"## {o.method} {o.path}\n" not in page]
    assert not missing


def test_every_command_is_documented() -> None:
    commands = {
        path.stem for path in python_sources(ROOT / "sdk/src/atoll/cli") if has_command(path)
    }
    reference, guide = read("docs/reference/cli.md"), read("docs/guides/cli.md")
    assert commands
    assert {name for name in commands if f"## atoll {name}\n" not in reference} == set()
    assert {name for name in commands if f"atoll {name}" not in guide} == set()


def has_command(path: Path) -> bool:
    """One file per command, named after it: those whose name is that of a function in them."""
    functions = [
        n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)
    ]
    return path.stem in functions


def test_every_promise_of_the_benchmarks_is_specified() -> None:
    promises = re.findall(r'Promise\("([a-z-]+)"', read("benchmarks/promises.py"))
    specified = re.findall(r"^\| `([a-z0-9-]+)` \|", read("SPECIFICATION.md"), re.MULTILINE)
    assert promises
    assert set(promises) <= set(specified)


def test_promise_is_checked_by_something_that_exists_or_pending() -> None:
    rows = re.findall(
        r"^\| `([a-z0-9-]+)` \|.*\| ([^|]+) \|$", read("SPECIFICATION.md"), re.MULTILINE
    )
    unchecked = []
    for name, checked in rows:
        paths = re.findall(r"`([\w/]+(?:\.py)?)`", checked)
        if "*pending*" not in checked and not (
            paths and all((ROOT / path).exists() for path in paths)
        ):
            unchecked.append(name)
    assert rows
    assert not unchecked


def test_every_capability_of_the_server_is_explained_and_in_the_unit() -> None:
    from atoll_server.privileges import KEPT

    kept = {capability.name for capability in KEPT}
    section = read("docs/concepts/isolation.md").partition("## What the server itself may do")[2]
    explained = re.findall(r"^\| (`CAP_.*`) \|", section.partition("\n## ")[0], re.MULTILINE)
    unit = re.search(r"CapabilityBoundingSet=((?:.*\\\n)*.*)", read("docs/guides/self-hosting.md"))
    assert set(re.findall(r"CAP_\w+", " ".join(explained))) == kept
    assert unit is not None
    # Dropping the others from the bounding set takes one more, which is then dropped as well.
    assert set(re.findall(r"CAP_\w+", unit.group(1))) == kept | {"CAP_SETPCAP"}
