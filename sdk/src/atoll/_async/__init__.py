# SPDX-License-Identifier: Apache-2.0
"""The asynchronous client, from which `tools/unasync.py` makes the synchronous one."""

from ._client import AsyncAtoll
from ._feed import AsyncSubscription
from ._files import AsyncFiles
from ._keys import AsyncKeys
from ._network import AsyncSandboxNetwork
from ._ports import AsyncPorts, AsyncPortStream
from ._process import AsyncProcess
from ._processes import AsyncProcesses, AsyncProcessList
from ._sandbox import AsyncSandbox
from ._sandboxes import AsyncSandboxes, AsyncSandboxList
from ._terminals import AsyncTerminal, AsyncTerminals
from ._watch import AsyncWatch

__all__ = [
    "AsyncAtoll",
    "AsyncFiles",
    "AsyncKeys",
    "AsyncPortStream",
    "AsyncPorts",
    "AsyncProcess",
    "AsyncProcessList",
    "AsyncProcesses",
    "AsyncSandbox",
    "AsyncSandboxList",
    "AsyncSandboxNetwork",
    "AsyncSandboxes",
    "AsyncSubscription",
    "AsyncTerminal",
    "AsyncTerminals",
    "AsyncWatch",
]
