# SPDX-License-Identifier: Apache-2.0
"""Which package may import which, read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.repo.tree import ROOT, imports_of, python_sources

SDK = ROOT / "sdk" / "src" / "atoll"
SERVER = ROOT / "server" / "src" / "atoll_server"

# Package → what it may import of Atoll: prefixes, the longest that fits a module decides for it.
ALLOWED: dict[str, tuple[str, ...]] = {
    "atoll": ("atoll",),
    "atoll.cli": ("atoll", "atoll_server.doctor", "atoll_server.config", "atoll_server.serve"),
    "atoll_server.agent": (
        "atoll_server.agent",
        "atoll_server.engine.model",
        "atoll_server.engine.errors",
    ),
    "atoll_server.runtimes": (
        "atoll_server.runtimes",
        "atoll_server.engine.model",
        "atoll_server.host",
    ),
    "atoll_server.engine": (
        "atoll_server.engine",
        "atoll_server.runtimes",
        "atoll_server.agent",
        "atoll_server.network",
        "atoll_server.host",
        "atoll_server.clock",
    ),
    "atoll_server.network": (
        "atoll_server.network",
        "atoll_server.runtimes.kernel",
        "atoll_server.host",
        "atoll_server.clock",
    ),
    "atoll_server.api": (
        "atoll_server.api",
        "atoll_server.engine",
        "atoll_server.network.control",
        "atoll_server.network.policy",
        "atoll_server.network.secrets",
        "atoll_server.network.written",
        "atoll_server.clock",
        "atoll_server.logs",
        "atoll.models",
    ),
    "atoll_server.proxy": ("atoll_server.proxy", "atoll_server.engine"),
    "atoll_server.host": (),
    "atoll_server.credentials": (),
    "atoll_server.privileges": ("atoll_server.credentials",),
    "atoll_server.precedence": ("atoll_server.runtimes.kernel",),
    "atoll_server.clock": (),
    "atoll_server.logs": (),
    "atoll_server.settings": ("atoll.models",),
    "atoll_server.config": ("atoll.models", "atoll_server.settings"),
    "atoll_server.facts": (
        "atoll_server.privileges",
        "atoll_server.engine",
        "atoll_server.network.namespace",
        "atoll_server.runtimes",
    ),
    "atoll_server.doctor": (
        "atoll_server.facts",
        "atoll_server.privileges",
        "atoll_server.engine",
        "atoll_server.runtimes",
    ),
    "atoll_server.listeners": ("atoll_server.settings",),
    "atoll_server.serving": ("atoll_server.api", "atoll_server.proxy", "atoll_server.listeners"),
    "atoll_server.announcing": (
        "atoll_server.engine",
        "atoll_server.listeners",
        "atoll_server.settings",
    ),
    "atoll_server.wiring": ("atoll", "atoll_server"),
    "atoll_server.serve": ("atoll", "atoll_server"),
    "atoll_server.__main__": ("atoll_server",),
    "atoll_server": (),
}
WEB_FRAMEWORKS = ("starlette", "uvicorn", "httpx2", "httpcore2")


def module_name(path: Path) -> str:
    root = SDK.parent if path.is_relative_to(SDK) else SERVER.parent
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def sources() -> list[Path]:
    return [*python_sources(SDK), *python_sources(SERVER)]


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_module_imports_only_what_its_package_may(path: Path) -> None:
    module = module_name(path)
    package = max((name for name in ALLOWED if is_within(module, name)), key=len)

    foreign = [
        name
        for name in imports_of(path)
        if (is_within(name, "atoll") or is_within(name, "atoll_server"))
        and not any(is_within(name, allowed) for allowed in ALLOWED[package])
    ]

    assert not foreign, f"{module} (rules of {package}) imports {foreign}"


@pytest.mark.parametrize("path", python_sources(SERVER / "engine"), ids=module_name)
def test_engine_knows_no_web_framework(path: Path) -> None:
    assert not [name for name in imports_of(path) if name.split(".")[0] in WEB_FRAMEWORKS]


@pytest.mark.parametrize("path", python_sources(SERVER / "api"), ids=module_name)
def test_api_knows_no_runtime(path: Path) -> None:
    assert not [name for name in imports_of(path) if is_within(name, "atoll_server.runtimes")]


def test_dialects_do_not_know_each_other() -> None:
    for path in python_sources(SERVER / "api" / "dialects"):
        own = ".".join(module_name(path).split(".")[:4])
        for name in imports_of(path):
            if is_within(name, "atoll_server.api.dialects"):
                assert is_within(name, own), f"{module_name(path)} imports {name}"


@pytest.mark.parametrize("path", python_sources(SERVER), ids=module_name)
def test_only_host_starts_programs(path: Path) -> None:
    if module_name(path) != "atoll_server.host":
        assert "subprocess" not in imports_of(path)
        assert "asyncio.subprocess" not in imports_of(path)


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_only_configuration_reads_the_environment(path: Path) -> None:
    module = module_name(path)
    if module in ("atoll_server.config", "atoll._config") or is_within(module, "atoll.cli"):
        return
    reads = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
    ]
    assert not reads, f"{module} reads the environment in lines {reads}"


def test_every_package_has_a_rule() -> None:
    packages = {module_name(path) for path in SERVER.glob("*/__init__.py")} | {
        module_name(path) for path in SERVER.glob("*.py")
    }
    assert not packages - ALLOWED.keys()
