# SPDX-License-Identifier: Apache-2.0
"""The program `atoll` in this process, against a server that answers as the test wrote down."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from atoll.cli import app
from tests.support.scripted_server import ScriptedServer, scripted_server

Atoll = Callable[..., Result]


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("ATOLL_", "RUNRA_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        yield server


@pytest.fixture
def atoll(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> Atoll:
    monkeypatch.setenv("ATOLL_URL", scripted.url)
    monkeypatch.setenv("ATOLL_API_KEY", "key")

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), prog_name="atoll")

    return invoke
