# SPDX-License-Identifier: Apache-2.0
"""Paths as clients give them, made absolute, and what an agent's refusals of them are. Links are the agent's affair."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from atoll_server.agent.errors import AgentError, AgentFailure
from atoll_server.engine import errors
from atoll_server.engine.model import SandboxId

MAX_PATH_BYTES: Final = 4096

AnyPath = bytes | str

_ERRORS: Final[dict[str, type[errors.EngineError]]] = {
    "not_found": errors.FileNotFound,
    "invalid": errors.InvalidRequest,
    "limit": errors.TooLarge,
    "unsupported": errors.Internal,
    "generation": errors.Internal,
}


class Paths:
    """The paths of one sandbox. Relative ones begin at its working directory."""

    def __init__(self, workdir: str, sandbox_id: SandboxId) -> None:
        self._workdir = workdir.encode("utf-8", "surrogateescape")
        self._sandbox_id = sandbox_id

    def resolve(self, path: AnyPath) -> bytes:
        """An absolute path. Raises `InvalidRequest`."""
        raw = _raw(path)
        if not raw or b"\0" in raw:
            raise errors.InvalidRequest(
                "path is empty or has a NUL byte in it", sandbox_id=self._sandbox_id
            )
        absolute = _without_dots(raw if raw.startswith(b"/") else self._workdir + b"/" + raw)
        if len(absolute) > MAX_PATH_BYTES:
            raise errors.InvalidRequest(
                f"path has {len(absolute)} bytes, {MAX_PATH_BYTES} is the limit",
                sandbox_id=self._sandbox_id,
            )
        return absolute

    @contextmanager
    def translated(self, *paths: AnyPath) -> Iterator[None]:
        """What the agent refuses in the block becomes an error of the engine about these paths."""
        try:
            yield
        except AgentFailure as failure:
            raise self._engine_error(failure, paths) from failure

    def _engine_error(
        self, failure: AgentFailure, paths: tuple[AnyPath, ...]
    ) -> errors.EngineError:
        if not isinstance(failure, AgentError):
            return errors.SandboxFailed(str(failure), sandbox_id=self._sandbox_id)
        message = f"{failure.message[:1].lower()}{failure.message[1:]}: {_shown(paths)}"
        if kind := _ERRORS.get(failure.code):
            return kind(message, sandbox_id=self._sandbox_id)
        return errors.FileError(message, reason=failure.code, sandbox_id=self._sandbox_id)


def _without_dots(path: bytes) -> bytes:
    """Leaves out what stands for the directory it is in. `..` stays: what it means depends on links inside."""
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    # A slash at the end asks for a directory.
    end = b"/" if parts and path.endswith((b"/", b"/.")) else b""
    return b"/" + b"/".join(parts) + end


def _shown(paths: tuple[AnyPath, ...]) -> str:
    return " to ".join(errors.show_name(_raw(path).decode("utf-8", "replace")) for path in paths)


def _raw(path: AnyPath) -> bytes:
    if isinstance(path, bytes):
        return path
    try:
        return path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise errors.InvalidRequest("path has surrogates that stand for no byte") from None
