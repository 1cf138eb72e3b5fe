# SPDX-License-Identifier: Apache-2.0
"""`atoll watch`: what changes in a directory of a sandbox."""

from __future__ import annotations

import json
import posixpath
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from .. import _wire
from ..models import ChangeKind, FileChange
from ._command import orderly_end
from ._processes import SandboxId
from ._session import Session
from ._terminal import explain, show

if TYPE_CHECKING:
    from atoll import Watch

KIND_WIDTH = max(len(kind.value) for kind in ChangeKind)
ENDS = {
    "removed": "{} is gone, and the watch with it",
    "stopped": "the watch was stopped",
    "failed": "{} cannot be watched any more",
}
LOST = "changes were lost here: look at what is there now"


def watch(
    context: typer.Context,
    sandbox_id: SandboxId,
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="The directory, in the sandbox's workdir or /…")
    ],
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="With all directories beneath.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line for programs.")
    ] = False,
) -> None:
    """Show what changes in a directory, a line a change, until Ctrl-C or the directory is gone."""
    session: Session = context.obj
    with orderly_end(), session.connect() as client:
        files = client.sandboxes.get(sandbox_id).files
        with files.watch(path, recursive=recursive) as found:
            if sys.stderr.isatty():
                explain(f"watching {found.path}; Ctrl-C ends it")
            place = _Place(path, found.path)
            for change in found:
                _show(change, place, as_json)
            explain(_describe_end(found))


class _Place:
    """A watched directory, as it was asked for and as it is: its changes are shown as it was asked for."""

    def __init__(self, given: str, resolved: str) -> None:
        self._given = given
        self._resolved = resolved
        self._above = resolved.rstrip("/") + "/"

    def shown(self, path: str) -> str:
        if path == self._resolved:
            return self._given
        beneath = path.removeprefix(self._above)
        return beneath if self._given in (".", "./") else posixpath.join(self._given, beneath)


def _show(change: FileChange, place: _Place, as_json: bool) -> None:
    """A line of its own, at once: what is read on a screen or from a pipe is never late."""
    if as_json:
        sys.stdout.write(json.dumps(_wire.to_plain(change)) + "\n")
    else:
        show(f"{change.kind.value:{KIND_WIDTH}}  {_describe(change, place)}")
    sys.stdout.flush()


def _describe(change: FileChange, place: _Place) -> str:
    slash = "/" if change.is_directory else ""
    names = [place.shown(path) + slash for path in (change.from_path, change.path) if path]
    if change.kind is ChangeKind.OVERFLOW:
        return ": ".join([*names, LOST])
    return " -> ".join(names)


def _describe_end(found: Watch) -> str:
    return ENDS.get(str(found.ended), "the watch has ended").format(found.path)
