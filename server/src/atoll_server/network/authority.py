# SPDX-License-Identifier: Apache-2.0
"""The certificate authority of one sandbox, which it trusts for the hosts of its secrets, and what it signs for them.

It is made by the server, and used by the proxy, which has no files: pyOpenSSL takes certificates out of memory, which
Python's own module cannot.
"""

from __future__ import annotations

import datetime
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

MAX_LEAVES: Final = 64
VALID: Final = datetime.timedelta(days=365)
"""Longer than any sandbox lives."""
HTTP: Final = b"http/1.1"

# What a clock inside may be behind.
_BEFORE = datetime.timedelta(days=1)
_COMMON_NAME = 64


@dataclass(frozen=True)
class Authority:
    """A certificate and its key, both PEM."""

    certificate: str
    key: str = field(repr=False)


def make_authority(hosts: Sequence[str], now: datetime.datetime) -> Authority:
    """An authority that can speak for these hosts, and what is below them, and for nobody else."""
    key = ec.generate_private_key(ec.SECP256R1())
    allowed = [x509.DNSName(host.removeprefix("*.")) for host in hosts]
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (_key_usage(signs_certificates=True), True),
        (x509.NameConstraints(permitted_subtrees=allowed, excluded_subtrees=None), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    )
    name = _name("Atoll, for one sandbox")
    certificate = _sign(name, name, key, key, now, extensions)
    return Authority(_pem(certificate), _key_pem(key))


class Leaves:
    """Certificates for names, made when first asked for and kept for a while, all for one key."""

    def __init__(self, authority: Authority, limit: int = MAX_LEAVES) -> None:
        self._authority = authority
        self._limit = limit
        self._contexts: OrderedDict[str, SSL.Context] = OrderedDict()

    def context(self, name: str) -> SSL.Context:
        """How a server of this name speaks TLS: HTTP/1.1 alone."""
        context = self._contexts.pop(name, None) or self._make_context(name)
        self._contexts[name] = context
        if len(self._contexts) > self._limit:
            self._contexts.popitem(last=False)
        return context

    def _make_context(self, name: str) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_alpn_select_callback(_select_http)
        context.use_privatekey(self._own_key)
        context.use_certificate(self._issue(name))
        context.add_extra_chain_cert(self._signer)
        return context

    def _issue(self, name: str) -> x509.Certificate:
        extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (
            (x509.SubjectAlternativeName([x509.DNSName(name)]), True),
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_key_usage(signs_certificates=False), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.SubjectKeyIdentifier.from_public_key(self._own_key.public_key()), False),
            (
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._signing_key.public_key()),
                False,
            ),
        )
        signer, now = self._signer, datetime.datetime.now(datetime.UTC)
        return _sign(
            _name(name[:_COMMON_NAME]),
            signer.subject,
            self._own_key,
            self._signing_key,
            now,
            extensions,
        )

    @cached_property
    def _own_key(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP256R1())

    @cached_property
    def _signer(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self._authority.certificate.encode())

    @cached_property
    def _signing_key(self) -> ec.EllipticCurvePrivateKey:
        key = serialization.load_pem_private_key(self._authority.key.encode(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key


def _select_http(_: SSL.Connection, offered: list[bytes]) -> bytes:
    """Say so even to whom it is of no use: then the handshake fails there, which is plainer than what would follow."""
    return HTTP


def _sign(
    subject: x509.Name,
    issuer: x509.Name,
    own: ec.EllipticCurvePrivateKey,
    signing: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + VALID)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signing, hashes.SHA256())


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
