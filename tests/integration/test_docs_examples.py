# SPDX-License-Identifier: Apache-2.0
"""The documentation's programs do what it says: every Python block that begins with `# test: run`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import ServerProcess

ROOT = Path(__file__).resolve().parent.parent.parent
MARK = "# test: run\n"


def find_examples() -> dict[str, str]:
    """Page and line → program."""
    examples = {}
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text()
        for found in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, found.start()) + 1
            if found.group(1).startswith(MARK):
                examples[f"{page.relative_to(ROOT)}:{line}"] = found.group(1)
    return examples


EXAMPLES = find_examples()


@pytest.mark.parametrize("place", EXAMPLES)
def test_example_runs(place: str, server: ServerProcess, tmp_path: Path) -> None:
    environment = {**os.environ, "ATOLL_URL": server.url, "ATOLL_API_KEY": server.api_key}

    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXAMPLES[place]],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr


def test_there_are_examples_to_run() -> None:
    assert len(EXAMPLES) >= 5
