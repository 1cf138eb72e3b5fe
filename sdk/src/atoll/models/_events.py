# SPDX-License-Identifier: Apache-2.0
"""What happens to sandboxes and in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ._fields import described


@dataclass(frozen=True)
class Event:
    """Something that happened. Which members `data` has depends on `type`."""

    id: str = field(metadata=described("where to go on after it"))
    type: str
    timestamp: str = field(metadata=described("when; ISO 8601, UTC"))
    sandbox_id: str | None = field(
        metadata=described("null where it is not about one sandbox alone")
    )
    trace_id: str | None = field(
        metadata=described("32 hexadecimal digits, the same for all events of a sandbox")
    )
    data: dict[str, Any]
