# SPDX-License-Identifier: Apache-2.0
"""How a command reaches a server: from the global options to a client."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidConfig

if TYPE_CHECKING:
    from atoll import AsyncAtoll, Atoll

MAX_KEY_FILE_BYTES = 4096
NO_SERVER = (
    "this needs a server that outlives the command: start one with `atoll serve`, "
    "then set ATOLL_URL and ATOLL_API_KEY (or pass --url and --api-key-file)"
)


@dataclass(frozen=True)
class Session:
    """The global options."""

    url: str | None = None
    api_key_file: Path | None = None

    def connect(self, *, private_will_do: bool = False) -> Atoll:
        """A client. Most commands are of no use with a private server, which ends with them."""
        from atoll import Atoll

        key = None if self.api_key_file is None else read_key_file(self.api_key_file)
        client = Atoll(self.url, key)
        if client.api_url is None and not private_will_do:
            raise InvalidConfig(NO_SERVER)
        return client

    def connect_async(self) -> AsyncAtoll:
        """The same for what has several things going on at once."""
        from atoll import AsyncAtoll

        key = None if self.api_key_file is None else read_key_file(self.api_key_file)
        client = AsyncAtoll(self.url, key)
        if client.api_url is None:
            raise InvalidConfig(NO_SERVER)
        return client


def read_key_file(path: Path) -> str:
    """The key in a file, or `InvalidConfig`."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY_FILE_BYTES).decode("ascii").strip()
    except UnicodeDecodeError:
        raise InvalidConfig(f"{path} holds no API key") from None
    except OSError as error:
        raise InvalidConfig(f"the API key file {path}: {error.strerror}") from None
