# SPDX-License-Identifier: Apache-2.0
"""Where ids come from."""

from __future__ import annotations

import secrets
import string

from atoll_server.engine.model import SandboxId

_ALPHABET = string.ascii_lowercase + string.digits
_LENGTH = 10


def new_sandbox_id() -> SandboxId:
    """`sb_` and ten random letters and digits (52 bits): not to be guessed, short enough to type."""
    return SandboxId("sb_" + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)))
