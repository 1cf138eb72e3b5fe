# SPDX-License-Identifier: Apache-2.0
"""A development server in a sandbox, and hot reload through its preview."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from atoll import PortInfo, Sandbox
from tests.support.browser import Page
from tools.setup import NO_VITE, VITE

APP = "/workspace/app"
PORT = 3000
SOURCES = Path(__file__).with_name("vite")
COMMAND = "exec node node_modules/vite/bin/vite.js --host 127.0.0.1 --strictPort --port"
LISTENS_MS = 60_000


@pytest.fixture(scope="module")
def vite(sandbox: Sandbox) -> PortInfo:
    """Its preview, which is private."""
    if not (VITE / "node_modules").is_dir():
        reason = NO_VITE.read_text().strip() if NO_VITE.exists() else "run make test-setup"
        pytest.skip(f"host lacks Vite: {reason}")
    if shutil.which("node") is None:
        pytest.skip("needs node")
    for directory in (VITE, SOURCES):
        sandbox.files.upload_dir(directory, APP)
    sandbox.processes.start(f"{COMMAND} {PORT}", cwd=APP)
    sandbox.wait_for_port(PORT, timeout_ms=LISTENS_MS)
    return sandbox.expose_port(PORT, private=True)


def test_changed_module_is_swapped_while_the_page_stays(
    page: Page, sandbox: Sandbox, vite: PortInfo
) -> None:
    page.open(sandbox.ports.sign(vite.port, lasts_ms=600_000).url)
    page.wait_for("document.querySelector('h1')?.textContent === 'before'")
    page.wait_for("told.includes('connected')")
    page.run("document.querySelector('input').value = 'typed'")

    sandbox.files.write(f"{APP}/text.js", 'export const text = "after";\n')
    page.wait_for("document.querySelector('h1').textContent === 'after'")

    assert page.run("document.querySelector('input').value") == "typed"
    assert page.run("[swaps, sessionStorage.loads]") == [1, "1"]
