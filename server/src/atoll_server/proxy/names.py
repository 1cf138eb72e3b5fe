# SPDX-License-Identifier: Apache-2.0
"""Which preview a request is for, by its host or by its path. Parses only; which ones there are it does not know."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

PATH_PREFIX: Final = b"/p/"
_HIGHEST_PORT: Final = 65_535
_NAME: Final = re.compile(rb"([1-9][0-9]{0,4})-([a-z0-9]{1,50})")
# Whatever begins like this beneath the domain is for a preview, well-formed or not: the API never sees it.
_PREVIEW_LIKE: Final = re.compile(rb"[0-9]+-")
_AUTHORITY: Final = re.compile(rb"([^:\[\]@/]*)(?::[0-9]*)?")


@dataclass(frozen=True)
class PreviewName:
    """A preview as asked for. `prefix` is the beginning of the path that named it; empty if the host did."""

    port: int
    label: str
    prefix: bytes = b""

    @property
    def is_by_path(self) -> bool:
        return bool(self.prefix)


NOBODY: Final = PreviewName(0, "")
"""What a malformed name becomes: there is never such a preview."""


def name_in_host(host: bytes, domain: bytes) -> PreviewName | None:
    """The preview of `PORT-LABEL.DOMAIN`; None for a host that is none of a preview."""
    found = _AUTHORITY.fullmatch(host.strip().lower())
    bare = found[1].rstrip(b".") if found else host.lower()
    if not bare.endswith(b"." + domain) or not _PREVIEW_LIKE.match(bare):
        return None
    return _parse(bare[: -len(domain) - 1])


def name_in_path(raw_path: bytes) -> PreviewName | None:
    """The preview of `/p/PORT-LABEL/…`; None for a path that does not begin so."""
    if not raw_path.startswith(PATH_PREFIX):
        return None
    name = raw_path[len(PATH_PREFIX) :].partition(b"/")[0]
    return _parse(name, prefix=PATH_PREFIX + name)


def _parse(name: bytes, prefix: bytes = b"") -> PreviewName:
    found = _NAME.fullmatch(name)
    if found is None or int(found[1]) > _HIGHEST_PORT:
        return NOBODY
    return PreviewName(int(found[1]), found[2].decode("ascii"), prefix)
