# SPDX-License-Identifier: Apache-2.0
"""`atoll cp`: files and directories into a sandbox and out of it."""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from .._local_files import LocalTarget
from ..errors import FileNotFound
from ..models import FileEntry
from ._command import orderly_end
from ._session import Session
from ._terminal import complain, show_json
from ._values import parse_place

if TYPE_CHECKING:
    from atoll import Files

CHUNK_BYTES = 1024 * 1024
Advance = Callable[[int], None]


def cp(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(help="ID:/path in a sandbox, a local path, or - for standard input.")
    ],
    target: Annotated[
        str, typer.Argument(help="The same on the other side, or - for standard output.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for programs.")] = False,
) -> None:
    """Copy files and directories into a sandbox, or out of it.

    Where the target is a directory, the copy goes into it. Relative paths in a sandbox start at its workdir.
    """
    session: Session = context.obj
    (from_id, from_path), (to_id, to_path) = parse_place(source), parse_place(target)
    if (from_id is None) == (to_id is None):
        raise typer.BadParameter("one side must be ID:/path, the other a local path or -")
    with orderly_end(), session.connect() as client:
        files = client.sandboxes.get(from_id or to_id or "").files
        if to_id is not None:
            copied = _upload(files, from_path, to_path)
        else:
            copied = _download(files, from_path, to_path, quiet=as_json)
    if as_json:
        show_json(copied)


def _upload(files: Files, source: str, target: str) -> dict[str, Any]:
    if source == "-":
        written = files.upload(sys.stdin.buffer, target)
        return {"path": written.path, "sizeBytes": written.size_bytes}
    place = _upload_place(files, source, target)
    if Path(source).is_dir():
        return {"path": place, "entries": files.upload_dir(source, place).entries}
    with open(source, "rb") as file:
        status = os.fstat(file.fileno())
        regular = stat.S_ISREG(status.st_mode)
        mode = stat.S_IMODE(status.st_mode) & 0o777 if regular else None
        if not _shows_progress():
            written = files.upload(source if regular else file, place, mode=mode)
        else:
            with _progress(source, status.st_size if regular else None) as advance:
                written = files.upload(_counted(file, advance), place, mode=mode)
    return {"path": written.path, "sizeBytes": written.size_bytes}


def _upload_place(files: Files, source: str, target: str) -> str:
    """Where it goes: into the target where that is a directory, else to the target itself."""
    with contextlib.suppress(FileNotFound):
        if files.stat(target).is_directory:
            return posixpath.join(target, os.path.basename(os.path.abspath(source)))
    return target


def _download(files: Files, source: str, target: str, *, quiet: bool) -> dict[str, Any]:
    entry = files.stat(source)
    if entry.is_directory:
        return _download_directory(files, entry, source, target, quiet=quiet)
    if target == "-":
        return {"path": "-", "sizeBytes": files.download(source, sys.stdout.buffer)}
    place = _download_place(entry, target)
    file = LocalTarget(place)
    try:
        with _progress(source, entry.size_bytes) as advance:
            size = files.download(source, _Counting(file, advance))  # type: ignore[arg-type] # only `write` is used
        file.commit()
    except BaseException:
        file.abort()
        raise
    with contextlib.suppress(OSError):  # a device keeps its own
        if place.is_file():
            place.chmod(int(entry.mode, 8) & 0o777)
    return {"path": str(place), "sizeBytes": size}


def _download_directory(
    files: Files, entry: FileEntry, source: str, target: str, *, quiet: bool
) -> dict[str, Any]:
    if target == "-":
        raise typer.BadParameter(f"{source} is a directory: it cannot go to standard output")
    place = _download_place(entry, target)
    copied = files.download_dir(source, place)
    if not quiet:
        for name in copied.skipped:
            complain(f"left out {name!r}: a device, or a link that leads elsewhere")
    return {
        "path": str(place),
        "entries": copied.entries,
        "sizeBytes": copied.size_bytes,
        "skipped": list(copied.skipped),
    }


def _download_place(entry: FileEntry, target: str) -> Path:
    """The same on this side. The name comes from the sandbox, and must be one."""
    place = Path(target)
    name = posixpath.basename(entry.path)
    if place.is_dir() and name not in ("", ".", "..") and Path(name).name == name:
        return place / name
    return place


class _Counting:
    """A file to be written that tells how far it is."""

    def __init__(self, file: LocalTarget, advance: Advance) -> None:
        self._file = file
        self._advance = advance

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._advance(len(data))


def _counted(file: BinaryIO, advance: Advance) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
        advance(len(chunk))


def _shows_progress() -> bool:
    return sys.stderr.isatty()


@contextlib.contextmanager
def _progress(name: str, size: int | None) -> Iterator[Advance]:
    """A bar on a terminal; nothing elsewhere."""
    if not _shows_progress():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=size)
        yield lambda count: bar.advance(task, count)
