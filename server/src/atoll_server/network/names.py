# SPDX-License-Identifier: Apache-2.0
"""Host names as policies, TLS, HTTP and DNS write them: one spelling for each, or none."""

from __future__ import annotations

import re

import idna

MAX_NAME = 253

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)
# What ends in a number is an address to many programs (`2130706433`, `0x7f.1`, `127.1`), whatever it is to us.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)


class InvalidName(ValueError):
    """Not a host name. The text says why, and is fit for whoever sent it."""


def parse_name(text: str) -> str:
    """The one spelling of a name from the wire: ASCII in lower case, no dot at the end."""
    name = text.lower()
    if not text.isascii() or not 0 < len(name) <= MAX_NAME:
        raise InvalidName(f"{_shown(text)} is not a host name of 1 to {MAX_NAME} ASCII characters")
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidName(f"{_shown(text)} is not a host name")
    if _NUMBER.fullmatch(labels[-1]):
        raise InvalidName(f"{_shown(text)} ends in a number, and is not an address either")
    return name


def parse_written_name(text: str) -> str:
    """The same for a name that a person wrote: one dot at the end is dropped, other scripts become punycode."""
    bare = text.removesuffix(".")
    if bare.isascii():
        return parse_name(bare)
    try:
        return parse_name(idna.encode(bare, uts46=True).decode("ascii"))
    except (idna.IDNAError, UnicodeError) as error:
        raise InvalidName(f"{_shown(text)} is not a host name: {error}") from None


def _shown(text: str) -> str:
    return ascii(text[:80])
