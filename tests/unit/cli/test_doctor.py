# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from atoll.cli import app
from atoll.cli.doctor import render_json, render_report
from atoll_server.doctor import Finding, Mark, Report
from atoll_server.engine.model import RuntimeKind

FINE = Finding("root", Mark.FINE, "running as root")
MISSING = Finding(
    "runtime gvisor", Mark.WARNING, "runsc is not installed", "install the package runsc"
)
NO_LOOP = Finding("disk images", Mark.PROBLEM, "no /dev/loop-control", "run `modprobe loop`")
READY = Report((FINE, MISSING), (RuntimeKind.CONTAINER,), "container (crun): namespaces")
UNUSABLE = Report((FINE, NO_LOOP), (), "none: sandboxes cannot run here")


def test_report_shows_marks_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    render_report(READY)

    shown = capsys.readouterr().out
    assert "✓  root" in shown
    assert "!  runtime gvisor" in shown
    assert "→ install the package runsc" in shown
    assert "container (crun): namespaces" in shown


def test_report_of_an_unusable_host_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    render_report(UNUSABLE)

    shown = capsys.readouterr().out
    assert "✗  disk images" in shown
    assert "Sandboxes cannot run here" in shown


def test_json_has_everything_the_report_has() -> None:
    assert render_json(READY) == {
        "ready": True,
        "runtime": "container",
        "isolation": "container (crun): namespaces",
        "runtimes": ["container"],
        "findings": [
            {"subject": "root", "mark": "fine", "detail": "running as root", "advice": None},
            {
                "subject": "runtime gvisor",
                "mark": "warning",
                "detail": "runsc is not installed",
                "advice": "install the package runsc",
            },
        ],
    }
    assert render_json(UNUSABLE)["runtime"] is None


def test_status_says_whether_this_host_is_ready() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json"])

    assert result.exit_code == (0 if json.loads(result.stdout)["ready"] else 1)


def test_state_directory_is_looked_at() -> None:
    result = CliRunner().invoke(app, ["doctor", "--state-dir", "/proc"])

    assert "free for /proc" in " ".join(result.stdout.split())
