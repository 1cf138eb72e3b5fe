# SPDX-License-Identifier: Apache-2.0
"""Many files in few requests: what goes into each, and what the answers mean. No I/O."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from . import _requests, models
from ._requests import PathInSandbox
from .errors import (
    Error,
    FileError,
    FileNotFound,
    FilesFailed,
    InvalidRequest,
    ProtocolError,
    TooLarge,
    error_from_answer,
)
from .models import MAX_BATCH_FILES, FileContent, FileFailure, FilesRead, FilesWritten, FileWritten

BATCH_BYTES = 8_000_000
"""What a request has at most, by our count: the server takes 8 MiB."""
FILE_OVERHEAD_BYTES = 200
"""More than what a file's record has besides its path and content."""
OF_ONE_FILE = (FileNotFound, FileError, TooLarge, InvalidRequest)
"""What can go wrong with one file and leaves the others as they are."""

Data = str | bytes | bytearray | memoryview
Path = TypeVar("Path", bound=PathInSandbox)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class FileToWrite:
    """One of the files for `files.write_many`: text, which is written as UTF-8, or bytes, and a mode as of `write`."""

    path: PathInSandbox
    data: Data
    mode: int | str | None = None


FileGiven = tuple[PathInSandbox, Data] | FileToWrite
FilesToWrite = Mapping[Any, Data] | Iterable[FileGiven]


@dataclass(frozen=True)
class Batch:
    """The files of one request, as they were given and as they travel. One that is too large for any has no records."""

    files: list[FileToWrite]
    records: list[models.FileToWrite]


def plan_writes(files: FilesToWrite) -> Iterator[Batch]:
    """What to send, in order, each as soon as it is full."""
    batch, size = Batch([], []), 0
    for file in map(_check_file, files.items() if isinstance(files, Mapping) else files):
        needed = _size(file)
        if batch.files and (size + needed > BATCH_BYTES or len(batch.files) == MAX_BATCH_FILES):
            yield batch
            batch, size = Batch([], []), 0
        if needed > BATCH_BYTES:
            yield Batch([file], [])
            continue
        batch.files.append(file)
        batch.records.append(_record(file))
        size += needed
    if batch.files:
        yield batch


def plan_reads(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """Which files to ask for at once, in order, each once."""
    if isinstance(paths, str | bytes):
        raise TypeError("many paths are read, such as of a list; use read for one")
    distinct = list(dict.fromkeys(paths))
    for start in range(0, len(distinct), MAX_BATCH_FILES):
        yield distinct[start : start + MAX_BATCH_FILES]


def written_of(answer: FilesWritten, count: int) -> list[FileWritten | Error]:
    """What became of each of `count` files."""
    _check_count(answer.data, count)
    return [_either(result.written, result.error) for result in answer.data]


def content_of(answer: FilesRead, count: int) -> list[bytes | Error]:
    """The bytes of each of `count` files, or why there are none."""
    _check_count(answer.data, count)
    found = [_either(result.file, result.error) for result in answer.data]
    return [one if isinstance(one, Error) else _decode(one) for one in found]


def check_all(paths: Iterable[PathInSandbox], results: Iterable[object], answer: Result) -> Result:
    """The answer, or `FilesFailed` with it where a result is an error."""
    pairs = zip(paths, results, strict=True)
    errors = {path: result for path, result in pairs if isinstance(result, Error)}
    if errors:
        raise FilesFailed(errors, answer)
    return answer


def to_bytes(data: object) -> bytes:
    """What a file will hold. Text becomes UTF-8."""
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise TypeError(f"text or bytes are written, not {type(data).__name__}")


def _check_file(given: object) -> FileToWrite:
    if isinstance(given, FileToWrite):
        return given
    if isinstance(given, tuple) and len(given) == 2:
        return FileToWrite(*given)
    raise TypeError(
        f"files are a mapping, (path, data) tuples or FileToWrite, not {type(given).__name__}"
    )


def _size(file: FileToWrite) -> int:
    path = len(_requests.path_bytes(file.path))
    return FILE_OVERHEAD_BYTES + 6 * path + 4 * len(to_bytes(file.data)) // 3


def _record(file: FileToWrite) -> models.FileToWrite:
    return models.FileToWrite(
        **_requests.encode_paths(path=file.path),
        content=base64.b64encode(to_bytes(file.data)).decode("ascii"),
        encoding="base64",
        mode=_requests.render_mode(file.mode),
    )


def _check_count(results: Sequence[object], count: int) -> None:
    if len(results) != count:
        raise ProtocolError(
            f"the answer has {len(results)} files of the {count} that were asked for"
        )


def _either(found: Result | None, failure: FileFailure | None) -> Result | Error:
    if found is not None:
        return found
    if failure is None:
        raise ProtocolError("the answer has neither a file nor an error")
    return error_from_answer(
        failure.code, failure.message, retryable=failure.retryable, reason=failure.reason
    )


def _decode(file: FileContent) -> bytes:
    try:
        if file.encoding == "base64":
            return base64.b64decode(file.content, validate=True)
    except ValueError:
        raise ProtocolError(f"the content of {file.path!r:.200} is not base64") from None
    return file.content.encode()
