# SPDX-License-Identifier: Apache-2.0
"""What many records' fields have in common."""

from __future__ import annotations

from typing import Any


def described(text: str, **limits: Any) -> dict[str, Any]:
    """A field's metadata."""
    return {"description": text, **limits}


ENCODINGS = {"one_of": ("utf-8", "base64")}
PATH_ENCODING = described("how `path` is written; for names that are not UTF-8", **ENCODINGS)
