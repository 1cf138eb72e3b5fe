# SPDX-License-Identifier: Apache-2.0
"""The asynchronous client, from which `tools/unasync.py` makes the synchronous one."""

from ._client import AsyncAtoll
from ._files import AsyncFiles
from ._keys import AsyncKeys
from ._sandbox import AsyncSandbox
from ._sandboxes import AsyncSandboxes, AsyncSandboxList

__all__ = [
    "AsyncAtoll",
    "AsyncFiles",
    "AsyncKeys",
    "AsyncSandbox",
    "AsyncSandboxList",
    "AsyncSandboxes",
]
