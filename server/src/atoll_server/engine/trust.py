# SPDX-License-Identifier: Apache-2.0
"""What programs in a sandbox with secrets trust beside what their image does, and find in their environment."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from typing import Final

from atoll_server.agent.client import AgentClient
from atoll_server.agent.errors import AgentError
from atoll_server.network.secrets import Secret

_log = logging.getLogger(__name__)

OWN: Final = "/etc/atoll/ca.pem"
"""The sandbox's own authority alone."""
ALL: Final = "/etc/atoll/ca-bundle.pem"
"""With those of its image."""
MAX_BUNDLE: Final = 4 << 20

_IMAGE_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
# What OpenSSL, and the programs that bring lists of their own, ask for a file of authorities.
_ASKED: Final = {
    "SSL_CERT_FILE": ALL,
    "REQUESTS_CA_BUNDLE": ALL,
    "CURL_CA_BUNDLE": ALL,
    "GIT_SSL_CAINFO": ALL,
    "PIP_CERT": ALL,
    "AWS_CA_BUNDLE": ALL,
    "CARGO_HTTP_CAINFO": ALL,
    "DENO_CERT": ALL,
    # Node adds this to its own.
    "NODE_EXTRA_CA_CERTS": OWN,
}


def environment(secrets: Iterable[Secret]) -> dict[str, str]:
    """What every process of a sandbox with these secrets sees, unless it is told otherwise."""
    placeholders = {secret.name: secret.placeholder for secret in secrets}
    return {**_ASKED, **placeholders} if placeholders else {}


async def install(agent: AgentClient, certificate: str) -> None:
    """Write both files. Raises `AgentFailure`."""
    own = certificate.encode()
    await agent.write(OWN.encode(), _once(own), mode=0o644)
    await agent.write(ALL.encode(), _once(await _read_bundle(agent) + own), mode=0o644)


async def _read_bundle(agent: AgentClient) -> bytes:
    """What the image trusts; nothing, where it has no such file or a strange one."""
    for path in _IMAGE_BUNDLES:
        try:
            async with agent.read(path.encode(), length=MAX_BUNDLE + 1) as (_, content):
                bundle = b"".join([piece async for piece in content])
        except AgentError:
            continue
        if len(bundle) <= MAX_BUNDLE:
            return bundle.rstrip() + b"\n"
        _log.warning("the image's %s is too long, and left out", path)
    return b""


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
