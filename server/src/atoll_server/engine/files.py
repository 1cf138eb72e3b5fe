# SPDX-License-Identifier: Apache-2.0
"""Files in a sandbox. Every path is resolved by the agent, inside; here it is only made absolute."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

from atoll_server.agent.client import AgentClient
from atoll_server.engine import errors
from atoll_server.engine.model import Entry, Listing, SandboxId, Written
from atoll_server.engine.paths import AnyPath, Paths

LIST_LIMIT: Final = 1000

# Looking for a file along a path that cannot be is the same as not finding it.
_NO_SUCH_PATH: Final = ("not_a_directory", "loop", "name_too_long")


class Files:
    """The file operations of one sandbox. Relative paths begin at its working directory."""

    def __init__(self, agent: AgentClient, workdir: str, sandbox_id: SandboxId) -> None:
        self._agent = agent
        self._paths = Paths(workdir, sandbox_id)

    def resolve(self, path: AnyPath) -> bytes:
        """The absolute path that is sent to the agent, or `InvalidRequest`."""
        return self._paths.resolve(path)

    async def stat(self, path: AnyPath, *, follow: bool = True) -> Entry:
        with self._paths.translated(path):
            return await self._agent.stat(self.resolve(path), follow=follow)

    async def exists(self, path: AnyPath) -> bool:
        """Whether something is there, at the end of all links."""
        try:
            await self.stat(path)
        except errors.FileNotFound:
            return False
        except errors.FileError as error:
            if error.reason in _NO_SUCH_PATH:
                return False
            raise
        return True

    async def list(self, path: AnyPath, *, depth: int = 1, limit: int = LIST_LIMIT) -> Listing:
        """What a directory holds, sorted, parents before children; at most `limit` entries."""
        with self._paths.translated(path):
            return await self._agent.list(self.resolve(path), depth=depth, limit=limit)

    @asynccontextmanager
    async def read(
        self, path: AnyPath, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[tuple[Entry, AsyncIterator[bytes]]]:
        """A regular file and its bytes, which come as fast as they are taken."""
        with self._paths.translated(path):
            resolved = self.resolve(path)
            async with (
                self._agent.read(resolved, offset=offset, length=length) as (entry, content),
                aclosing(self._translate_each(content, path)) as chunks,
            ):
                yield entry, chunks

    async def write(
        self,
        path: AnyPath,
        chunks: AsyncIterable[bytes],
        *,
        mode: int | None = None,
        append: bool = False,
        size: int | None = None,
    ) -> Written:
        """Write a file, making its parents. Whatever stops `chunks` early leaves everything as it was."""
        with self._paths.translated(path):
            return await self._agent.write(
                self.resolve(path), chunks, mode=mode, append=append, size=size
            )

    async def mkdir(self, path: AnyPath, *, parents: bool = True, mode: int | None = None) -> None:
        with self._paths.translated(path):
            await self._agent.mkdir(self.resolve(path), parents=parents, mode=mode)

    async def move(self, source: AnyPath, destination: AnyPath) -> None:
        with self._paths.translated(source, destination):
            await self._agent.move(self.resolve(source), self.resolve(destination))

    async def copy(self, source: AnyPath, destination: AnyPath) -> None:
        with self._paths.translated(source, destination):
            await self._agent.copy(self.resolve(source), self.resolve(destination))

    async def remove(self, path: AnyPath, *, recursive: bool = False) -> None:
        with self._paths.translated(path):
            await self._agent.remove(self.resolve(path), recursive=recursive)

    async def chmod(self, path: AnyPath, mode: int, *, recursive: bool = False) -> None:
        with self._paths.translated(path):
            await self._agent.chmod(self.resolve(path), mode, recursive=recursive)

    async def chown(
        self, path: AnyPath, user: str, group: str | None = None, *, recursive: bool = False
    ) -> None:
        """Give a file to a user, by name or number; to the user's own group where none is named."""
        with self._paths.translated(path):
            await self._agent.chown(self.resolve(path), user, group, recursive=recursive)

    @asynccontextmanager
    async def pack(self, path: AnyPath) -> AsyncIterator[AsyncIterator[bytes]]:
        """A tar of what a directory holds."""
        with self._paths.translated(path):
            async with (
                self._agent.pack(self.resolve(path)) as content,
                aclosing(self._translate_each(content, path)) as chunks,
            ):
                yield chunks

    async def unpack(self, path: AnyPath, chunks: AsyncIterable[bytes]) -> int:
        """Place a tar's members beneath a directory. Answers how many there were."""
        with self._paths.translated(path):
            return await self._agent.unpack(self.resolve(path), chunks)

    async def _translate_each(
        self, content: AsyncIterator[bytes], path: AnyPath
    ) -> AsyncGenerator[bytes, None]:
        with self._paths.translated(path):
            async for chunk in content:
                yield chunk
