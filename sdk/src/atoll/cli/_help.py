# SPDX-License-Identifier: Apache-2.0
"""What `--help` shows, where typer's own would puzzle: flags take no values, and text is as wide as the terminal."""

from __future__ import annotations

from typing import Any

import typer.core

# What typer builds on is click or a copy of it, by version: hence `Any`.


class Command(typer.core.TyperCommand):
    """One whose help says of no flag that it takes a value."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types_of_flags(super().get_params(ctx))


class Group(typer.core.TyperGroup):
    """The same with commands below it."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types_of_flags(super().get_params(ctx))


def unwrap(text: str) -> str:
    """A docstring whose lines are as long as the terminal's, not as the source's."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _without_types_of_flags(params: list[Any]) -> list[Any]:
    for each in params:
        if getattr(each, "is_flag", False) and each.metavar is None:
            each.metavar = ""
    return params
