# SPDX-License-Identifier: Apache-2.0
"""Images: which root file system a name stands for.

`host` is built in: the host's `/usr` below a private writable layer, and a small `/` of our own. Nothing else of the
host is visible in it: no homes, no `/etc/shadow`, no `/var`, no `/opt`. An operator adds aliases, and directories that
hold a root file system. Such a tree is read, never written to and never trusted: our own mount points lie above it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from atoll_server.engine.errors import InvalidConfig
from atoll_server.engine.skeletons import Skeletons, is_in_host
from atoll_server.runtimes.base import RootFilesystem, Tree

HOST = "host"
NAMES_SHOWN = 20

# As OCI has it: registry, path, tag and digest, of which only one part of the path must be there.
_NAME = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?/)?"
    r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?:@[a-z0-9]+:[0-9a-f]{32,128})?"
)
_NAME_LIMIT = 255
# Where we mount, or lay files of our own below the tree's. The layers see to it that a link in one of them leads
# nowhere; a tree that has one is no root file system that works.
_PLAIN_DIRECTORIES = ("dev", "etc", "proc", "run", "run/atoll", "sys", "tmp")


class ImageRefused(Exception):
    """An image cannot be as the operator configured it. The text names it and says what to do."""


@dataclass(frozen=True)
class Image:
    """What a name stands for: another name (`alias_of`), a directory of the host, or, without both, `host`."""

    name: str
    alias_of: str | None = None
    directory: Path | None = None


class Images:
    """Resolves image names and keeps what they are made of below `directory`."""

    def __init__(
        self, directory: Path, configured: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """`configured` maps names to an image or a directory. Raises `ImageRefused`."""
        self._directory = directory
        self._skeletons = Skeletons(directory)
        self._images = parse_images(configured)

    def prepare(self) -> None:
        """Make what images need on this host, once, and look at the directories. Blocks. Raises `ImageRefused`."""
        self._skeletons.prepare()
        for image in self._images.values():
            if image.directory is not None:
                fault = _find_fault(image.directory, private=self._directory)
                if fault is not None:
                    raise ImageRefused(f"image {image.name!r}: {image.directory} {fault}")

    def list(self) -> tuple[Image, ...]:
        """All there are: `host`, then those configured, in their order."""
        return tuple(self._images.values())

    def check(self, name: str) -> None:
        """Raises `InvalidConfig` for an image that does not exist."""
        if name not in self._images:
            raise InvalidConfig(f"unknown image {name!r}: this server has {self._names()}")

    def resolve(self, name: str) -> RootFilesystem:
        """The trees of image `name`, as the host is now. Blocks. Raises what `check` does."""
        image = self._find(name)
        if image.directory is not None:
            layers = (self._skeletons.frame(), image.directory, self._skeletons.base())
            return RootFilesystem((Tree(layers, "/"),))
        return RootFilesystem((Tree((self._skeletons.host(),), "/"), Tree((Path("/usr"),), "/usr")))

    def has_directory(self, name: str, directory: str) -> bool:
        """Whether an image is known to have it; an operator's tree may have any. Raises what `check` does."""
        return self._find(name).directory is None and is_in_host(directory)

    def _find(self, name: str) -> Image:
        """What a name stands for in the end."""
        self.check(name)
        image = self._images[name]
        while image.alias_of is not None:
            image = self._images[image.alias_of]
        return image

    def _names(self) -> str:
        names = [repr(name) for name in self._images]
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        return ", ".join(names[:NAMES_SHOWN]) + more


def parse_images(configured: Mapping[str, str]) -> Mapping[str, Image]:
    """`host` and the images that `configured` describes, by name. Raises `ImageRefused`; looks at no directory."""
    images = {HOST: Image(HOST)}
    for name, source in configured.items():
        if name == HOST:
            raise ImageRefused(f"image {HOST!r} is built in: choose another name")
        if len(name) > _NAME_LIMIT or not _NAME.fullmatch(name):
            raise ImageRefused(
                f"image {name[:80]!r}: not a name; names look like python, python:3.12 or example.org/team/tools:1"
            )
        if source.startswith("/"):
            images[name] = Image(name, directory=Path(source))
        else:
            images[name] = Image(name, alias_of=source)
    for image in images.values():
        _check_alias(image, images)
    return images


def _check_alias(image: Image, images: Mapping[str, Image]) -> None:
    passed = [image.name]
    while image.alias_of is not None:
        if image.alias_of in passed:
            raise ImageRefused(f"image {passed[0]!r} stands for itself: {' → '.join(passed)}")
        if image.alias_of not in images:
            raise ImageRefused(
                f"image {image.name!r}: {image.alias_of[:80]!r} is neither an image nor a directory's absolute path"
            )
        image = images[image.alias_of]
        passed.append(image.name)


def _find_fault(directory: Path, *, private: Path) -> str | None:
    """Why `directory` can be no image, in words that follow its name. `private` must not lie in it."""
    try:
        if not directory.is_dir():
            return "is no directory" if directory.exists() else "does not exist"
        if private.resolve().is_relative_to(directory.resolve()):
            return f"holds this server's own files, {private}: choose a directory apart from them"
        if not any(os.path.lexists(directory / name) for name in ("bin", "usr")):
            return "holds no root file system: there is neither bin nor usr in it"
        for name in _PLAIN_DIRECTORIES:
            entry = directory / name
            if entry.is_symlink() or (entry.exists() and not entry.is_dir()):
                return (
                    f"has a {name} that is no plain directory: replace it by one, or leave it out"
                )
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None
