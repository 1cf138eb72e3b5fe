# SPDX-License-Identifier: Apache-2.0
"""The server's side of the network: sandboxes' namespaces, and the proxy that serves them, started or found."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from atoll_server import host
from atoll_server.network.control import (
    CALL_TIMEOUT,
    ProxyControl,
    ProxyUnavailable,
    Report,
)
from atoll_server.network.namespace import NamespaceDirectory, join
from atoll_server.network.policy import Policy
from atoll_server.network.proxy import ProxySettings
from atoll_server.network.proxy_process import Life, ProxyProcess
from atoll_server.network.secrets import Keyring


@dataclass(frozen=True)
class EgressSettings:
    """How a proxy is to be started; `ProxySettings` says what the fields mean."""

    user: int
    name_servers: tuple[tuple[str, int], ...]
    own_addresses: tuple[str, ...] = ()
    opened: tuple[str, ...] = ()
    connections: int | None = None
    bytes_per_second: float | None = None
    bundle: str = ""
    unneeded_seconds: float | None = None


@dataclass
class _Attached:
    """What holds for a sandbox, and which proxy was told so; None where it is not known that one was."""

    policy: Policy
    told: Life | None = None


class NetworkFailed(Exception):
    """Something with sandboxes' networks could not be done. The text is for an operator's log, not for clients."""


class Egress:
    """Gives sandboxes their network and takes it away. Every method blocks: call it from a worker thread.

    The proxy is started when the first sandbox wants it, and goes on without the server with what it was last told, as
    long as there are sandboxes.
    Where it has ended, nothing leaves any sandbox until `keep` has been called, which serves anew whoever should be.
    Everything raises `NetworkFailed`.
    """

    def __init__(
        self, directory: Path, settings: EgressSettings, call_timeout: float = CALL_TIMEOUT
    ) -> None:
        self._settings = settings
        self._namespaces = NamespaceDirectory(directory / "namespaces")
        self._control = ProxyControl(directory / "control.sock", call_timeout)
        self._proxy = ProxyProcess(directory, self._render_settings)
        self.on_start: Callable[[], None] = lambda: None
        """Called, on whatever thread, when a proxy was started."""
        self._lock = threading.Lock()
        self._keyrings: dict[str, Keyring] = {}
        self._attached: dict[str, _Attached] = {}
        """What holds for whom this run of the server has given a network, whether anybody else knows of it yet."""
        self._is_closed = False

    def start(self) -> None:
        """Have a proxy, though nobody may want it yet."""
        with self._lock, _failures():
            if self._is_closed:
                raise NetworkFailed("the server is ending")
            # One that lives and does not answer is met with by whoever tells it something.
            if not self._proxy.is_known_to_live():
                self._ensure_proxy()

    def keep(self, policies: Mapping[str, Policy], *, only_these: bool = False) -> None:
        """Have a proxy that serves those of these sandboxes that have a network, and with `only_these` no others.

        Else those that were attached are served, too. A proxy that runs is kept, with what is open in it. Without
        sandboxes none is started.
        """
        with self._lock, _failures():
            wanted = self._find_wanted(policies if only_these else self._with_attached(policies))
            served = self._ensure_proxy() if wanted else self._find_served() or frozenset()
            for sandbox_id in served - wanted.keys() if only_these else ():
                self._control.close(sandbox_id)
                self._attached.pop(sandbox_id, None)
            self._tell_all(wanted, served)

    def count_wanting(self, policies: Mapping[str, Policy]) -> int:
        """How many `keep` would have served."""
        return len(self._find_wanted(self._with_attached(policies)))

    def attach(self, sandbox_id: str, policy: Policy) -> Path:
        """Make a sandbox's edge, and have the proxy serve it. On failure nothing is left.

        Returns where the edge is mounted. Nothing reaches it before a namespace has been joined to it.
        """
        self.start()
        with _failures():
            made = self._namespaces.make_edge(sandbox_id)
            self._attached[sandbox_id] = _Attached(policy)
            try:
                self._serve_first(sandbox_id, policy)
            except BaseException:
                self._attached.pop(sandbox_id, None)
                self._namespaces.remove(sandbox_id)
                raise
            return made

    def make_inside(self, sandbox_id: str) -> Path:
        """Make a namespace for what will run in a sandbox, joined to its edge. Returns where it is mounted."""
        with _failures():
            return self._namespaces.make_inside(sandbox_id)

    def join(self, inside: BinaryIO, edge: BinaryIO) -> None:
        """Join the namespace of what runs in a sandbox to its edge."""
        with _failures():
            join(inside, edge)

    def update(self, sandbox_id: str, policy: Policy) -> None:
        """Let another policy hold; what it does not allow is cut when this returns."""
        if sandbox_id in self._attached:
            self._attached[sandbox_id] = _Attached(policy)
        with _failures():
            try:
                self._update(sandbox_id, policy)
            except ProxyUnavailable:
                self._serve_anew(sandbox_id, policy)

    def is_kept(self, sandbox_id: str, policy: Policy) -> bool:
        """Whether a proxy that lives was told this policy and no other since. It is not asked, so this costs nothing.

        False where that is not known, as of sandboxes that an earlier run of the server has attached.
        """
        attached = self._attached.get(sandbox_id)
        if attached is None or attached.policy != policy or attached.told is None:
            return False
        return attached.told.goes_on()

    def remember(self, sandbox_id: str, keyring: Keyring) -> None:
        """Have a sandbox served with these secrets only, whenever that is next begun."""
        self._keyrings[sandbox_id] = keyring

    def seal(self, sandbox_id: str, keyring: Keyring) -> None:
        """Put a sandbox's secrets in from now on, whatever becomes of the proxy."""
        self.remember(sandbox_id, keyring)
        with self._lock, _failures():
            self._ensure_proxy()
            self._control.seal(sandbox_id, keyring)

    def report(self, sandbox_id: str) -> Report:
        """What a sandbox did, and what it was last refused."""
        with _failures():
            return self._control.report(sandbox_id)

    def listen(self) -> socket.socket | None:
        """Where a proxy tells what happens until it ends; None where there is none, or an older one."""
        with contextlib.suppress(ProxyUnavailable):
            return self._control.listen()
        return None

    def detach(self, sandbox_id: str) -> None:
        """Take a sandbox's network away. Repeating it is harmless, and it needs no proxy."""
        self._keyrings.pop(sandbox_id, None)
        self._attached.pop(sandbox_id, None)
        if not self.has(sandbox_id):
            return
        # Without a proxy nothing is open; and one that does not listen is told at the next start.
        with contextlib.suppress(ProxyUnavailable):
            self._control.close(sandbox_id)
        with _failures():
            self._namespaces.remove(sandbox_id)

    def has(self, sandbox_id: str) -> bool:
        """Whether there are namespaces of a sandbox."""
        return self._namespaces.paths(sandbox_id).edge.exists()

    def list(self) -> frozenset[str]:
        """The ids of sandboxes of which there are namespaces; for the sweeper."""
        return self._namespaces.list()

    def close(self) -> None:
        """End the proxy, unless sandboxes are left that it serves. None is started any more."""
        with self._lock:
            self._is_closed = True
            if not self.list():
                self.stop()
            self._proxy.close()

    def stop(self) -> None:
        """End the proxy. Sandboxes reach nothing any more."""
        # It may have ended already.
        with contextlib.suppress(ProxyUnavailable):
            self._control.stop()
        self._proxy.end()

    def _ensure_proxy(self) -> frozenset[str]:
        """The ids of those whom the proxy serves; it is started where there is none."""
        served = self._find_served()
        if served is None:
            self._proxy.start()
            self.on_start()
        else:
            self._proxy.find()
        return served or frozenset()

    def _tell_all(self, policies: Mapping[str, Policy], served: frozenset[str]) -> None:
        """One that cannot be served, as it is just being removed, must not keep the others from it."""
        failures: list[Exception] = []
        for sandbox_id, policy in policies.items():
            try:
                self._tell(sandbox_id, policy, is_served=sandbox_id in served)
            except (ProxyUnavailable, OSError) as error:
                # One that is just being attached is served by whoever does that.
                if self.has(sandbox_id) and sandbox_id not in (self._find_served() or ()):
                    failures.append(error)
        if failures:
            raise failures[0]

    def _with_attached(self, policies: Mapping[str, Policy]) -> dict[str, Policy]:
        return {**{i: it.policy for i, it in tuple(self._attached.items())}, **policies}

    def _find_wanted(self, policies: Mapping[str, Policy]) -> dict[str, Policy]:
        present = self._namespaces.list()
        return {i: policy for i, policy in policies.items() if i in present}

    def _serve_first(self, sandbox_id: str, policy: Policy) -> None:
        try:
            self._serve(sandbox_id, policy)
        except (ProxyUnavailable, OSError):
            # The proxy has ended at this moment, or whoever brought it back has been faster.
            self._serve_anew(sandbox_id, policy)

    def _serve_anew(self, sandbox_id: str, policy: Policy) -> None:
        """Have a sandbox served whose proxy has ended, or was started after it and was never told of it."""
        with self._lock:
            self._tell(sandbox_id, policy, is_served=sandbox_id in self._ensure_proxy())

    def _tell(self, sandbox_id: str, policy: Policy, *, is_served: bool) -> None:
        # Before it is served, so that no request goes out with its placeholders as they are.
        if (keyring := self._keyrings.get(sandbox_id)) is not None:
            self._control.seal(sandbox_id, keyring)
        if is_served:
            self._update(sandbox_id, policy)
        else:
            self._serve(sandbox_id, policy)

    def _update(self, sandbox_id: str, policy: Policy) -> None:
        with self._telling(sandbox_id, policy):
            self._control.update(sandbox_id, policy)

    def _serve(self, sandbox_id: str, policy: Policy) -> None:
        sockets = self._namespaces.listen(sandbox_id)
        try:
            with self._telling(sandbox_id, policy):
                self._control.open(sandbox_id, policy, sockets.all())
        finally:
            sockets.close()

    @contextlib.contextmanager
    def _telling(self, sandbox_id: str, policy: Policy) -> Iterator[None]:
        """Note whom the block has told, if it is what holds by then."""
        # Whose life it is must be known before: if another proxy takes its place meanwhile, this one is over.
        life = self._proxy.life
        yield
        attached = self._attached.get(sandbox_id)
        if attached is not None and attached.policy == policy:
            attached.told = life

    def _find_served(self) -> frozenset[str] | None:
        try:
            return self._control.list()
        except ProxyUnavailable:
            return None

    def _render_settings(self, control: int, root: str) -> ProxySettings:
        given = self._settings
        settings = ProxySettings(
            control=control,
            user=given.user,
            root=root,
            name_servers=list(given.name_servers),
            own_addresses=list(given.own_addresses),
            opened=list(given.opened),
            bytes_per_second=given.bytes_per_second,
            bundle=given.bundle,
        )
        if given.connections is not None:
            settings.connections = given.connections
        if given.unneeded_seconds is not None:
            settings.unneeded_seconds = given.unneeded_seconds
        return settings


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (ProxyUnavailable, host.HostCommandFailed, OSError) as error:
        raise NetworkFailed(str(error)) from error
