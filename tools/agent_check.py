#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Format, lints and tests of the Rust agent. Lints need a current toolchain; Debian 12's only runs the tests."""

import os
import re
import subprocess
import sys
from pathlib import Path

AGENT = Path(__file__).resolve().parent.parent / "agent"
LINTS_SINCE = (1, 80)
"""rustfmt and clippy of older toolchains disagree with current ones about the same source."""


def main() -> int:
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    os.environ["PATH"] += os.pathsep + str(home / "bin")
    steps = [["test", "--quiet", "--offline"]]
    if _toolchain() >= LINTS_SINCE and _has("fmt") and _has("clippy"):
        steps = [
            ["fmt", "--check"],
            ["clippy", "--quiet", "--offline", "--all-targets", "--", "-D", "warnings"],
            *steps,
        ]
    else:
        print(
            "  the agent's format and lints are not checked: they need Rust 1.80 or newer with rustfmt and clippy"
        )
    for step in steps:
        status = subprocess.run(
            ["cargo", *step], cwd=AGENT, stdin=subprocess.DEVNULL, check=False
        ).returncode
        if status:
            print(f"failed: cd agent && cargo {' '.join(step)}", file=sys.stderr)
            return status
    return 0


def _toolchain() -> tuple[int, int]:
    output = subprocess.run(
        ["cargo", "--version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.match(r"cargo (\d+)\.(\d+)", output)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def _has(subcommand: str) -> bool:
    return (
        subprocess.run(
            ["cargo", subcommand, "--version"], capture_output=True, check=False
        ).returncode
        == 0
    )


if __name__ == "__main__":
    sys.exit(main())
