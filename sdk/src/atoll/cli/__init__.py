# SPDX-License-Identifier: Apache-2.0
"""The command line: one file a command, each loaded when it is used."""

from ._app import app, main

__all__ = ["app", "main"]
