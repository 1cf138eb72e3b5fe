# SPDX-License-Identifier: Apache-2.0
"""Atoll: run code you do not trust, on machines you own."""

from importlib import import_module
from typing import TYPE_CHECKING

from ._version import __version__
from .errors import (
    CommandFailed,
    CommandNotStarted,
    ConnectFailed,
    ConnectionLost,
    Error,
    FileError,
    FileNotFound,
    Forbidden,
    Internal,
    InvalidConfig,
    InvalidRequest,
    KeyNotFound,
    NotFound,
    ProtocolError,
    RateLimited,
    ResourceExhausted,
    RuntimeUnavailable,
    SandboxFailed,
    SandboxNotFound,
    SandboxNotRunning,
    Timeout,
    TooLarge,
    Unauthorized,
    UnsafeArchive,
)
from .models import (
    ExecResult,
    FileEntry,
    FileType,
    FileWritten,
    Health,
    ImageInfo,
    ImageKind,
    KeyInfo,
    KeySource,
    Resources,
    Runtime,
    SandboxInfo,
    SandboxState,
    Unpacked,
)

if TYPE_CHECKING:
    from ._archive import DirectoryDownloaded
    from ._async import (
        AsyncAtoll,
        AsyncFiles,
        AsyncKeys,
        AsyncSandbox,
        AsyncSandboxes,
        AsyncSandboxList,
    )
    from ._sync import Atoll, Files, Keys, Sandbox, Sandboxes, SandboxList

__all__ = [
    "AsyncAtoll",
    "AsyncFiles",
    "AsyncKeys",
    "AsyncSandbox",
    "AsyncSandboxList",
    "AsyncSandboxes",
    "Atoll",
    "CommandFailed",
    "CommandNotStarted",
    "ConnectFailed",
    "ConnectionLost",
    "DirectoryDownloaded",
    "Error",
    "ExecResult",
    "FileEntry",
    "FileError",
    "FileNotFound",
    "FileType",
    "FileWritten",
    "Files",
    "Forbidden",
    "Health",
    "ImageInfo",
    "ImageKind",
    "Internal",
    "InvalidConfig",
    "InvalidRequest",
    "KeyInfo",
    "KeyNotFound",
    "KeySource",
    "Keys",
    "NotFound",
    "ProtocolError",
    "RateLimited",
    "ResourceExhausted",
    "Resources",
    "Runtime",
    "RuntimeUnavailable",
    "Sandbox",
    "SandboxFailed",
    "SandboxInfo",
    "SandboxList",
    "SandboxNotFound",
    "SandboxNotRunning",
    "SandboxState",
    "Sandboxes",
    "Timeout",
    "TooLarge",
    "Unauthorized",
    "Unpacked",
    "UnsafeArchive",
    "__version__",
]

# Loaded with their first use: the server needs only the records, `atoll --help` not even those.
_LAZY = {
    "AsyncAtoll": "._async",
    "AsyncFiles": "._async",
    "AsyncKeys": "._async",
    "AsyncSandbox": "._async",
    "AsyncSandboxList": "._async",
    "AsyncSandboxes": "._async",
    "Atoll": "._sync",
    "DirectoryDownloaded": "._archive",
    "Files": "._sync",
    "Keys": "._sync",
    "Sandbox": "._sync",
    "SandboxList": "._sync",
    "Sandboxes": "._sync",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_LAZY[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
