# SPDX-License-Identifier: Apache-2.0
"""What a sandbox consists of on the host: made by steps, taken down completely, found again after a restart.

Everything in here blocks and runs on worker threads. The steps, in order: an id range, a directory for the agent's
socket, a control group, a disk, a network where one is wanted, and the runtime, which makes its mounts by itself in a
namespace of the sandbox's own.
"""

from __future__ import annotations

import logging
import os
import resource
import shutil
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from atoll_server.agent.connection import can_refuse_descriptors
from atoll_server.engine import errors
from atoll_server.engine.images import Images
from atoll_server.engine.model import RuntimeKind, SandboxId, SandboxSpec, Usage
from atoll_server.engine.site import HostPaths, Site
from atoll_server.engine.steps import Step, run_steps, undo_steps
from atoll_server.engine.threads import begin
from atoll_server.engine.vault import CannotOpen, Vault
from atoll_server.network.authority import make_authority
from atoll_server.network.control import Report
from atoll_server.network.egress import Egress
from atoll_server.network.policy import Default, Policy
from atoll_server.network.secrets import Keyring, hosts_of
from atoll_server.runtimes import kernel
from atoll_server.runtimes.base import Launch, Runtime, RuntimeFailed
from atoll_server.runtimes.cgroups import Cgroups, GroupLimits
from atoll_server.runtimes.disk import make_disk
from atoll_server.runtimes.idmap import IdRanges
from atoll_server.runtimes.usage import read_usage

_log = logging.getLogger(__name__)

KILL_TIMEOUT = 20.0
NO_NETWORKS = (
    "this host gives no sandbox a network, see `atoll doctor`; create it with network none"
)
# What `st_blocks` counts, whatever the file system's own blocks are.
_BLOCK = 512

# The agent's socket and nothing else fits: a sandbox cannot fill the host's memory through it. Links in it are not
# followed, so that the server cannot be sent elsewhere when it connects.
_CONTROL_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC | kernel.MS_NOSYMFOLLOW
_CONTROL_SIZE = "size=64k,nr_inodes=16,mode=0700"


class Sites:
    """Makes, finds and removes sandboxes' places on this host."""

    def __init__(
        self,
        paths: HostPaths,
        images: Images,
        runtimes: Mapping[RuntimeKind, Runtime],
        cgroups: Cgroups,
        egress: Egress | None = None,
    ) -> None:
        self._paths = paths
        self._images = images
        self._runtimes = runtimes
        self._cgroups = cgroups
        self._egress = egress
        # A policy that is read and told under it cannot overtake one that came after it.
        self._policies = threading.Lock()
        self._ids = IdRanges()
        self._vault = Vault(paths.run / "vault.key")
        self._may_linger = can_refuse_descriptors()
        self._most_open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self._steps: tuple[Step[Site], ...] = (
            Step("id range", self._take_ids, self._return_ids),
            Step("network", self._make_network, self._remove_network),
            Step("control directory", self._make_control, self._remove_control),
            Step("control group", self._make_group, self._remove_group),
            Step("disk", self._make_disk, self._remove_disk),
            Step("runtime", self._start_runtime, self._stop_runtime),
            Step("link", self._make_link, self._keep_link),
        )

    def prepare(self) -> None:
        """Make what all sandboxes share. Called once, before anything else."""
        self._paths.prepare()
        self._images.prepare()
        self._cgroups.prepare()

    def build(self, sandbox_id: SandboxId, kind: RuntimeKind, spec: SandboxSpec) -> Site:
        """Start a sandbox. Needs a thread of its own, which must end afterwards. A failure leaves nothing behind."""
        site = Site(sandbox_id, spec, self._runtimes[kind], self._cgroups.group(sandbox_id))
        run_steps(self._steps, site)
        return site

    def remove(self, site: Site) -> bool:
        """Kill what runs and remove every trace. May be repeated. True if nothing is left."""
        return undo_steps(self._steps, site)

    def find(
        self,
        sandbox_id: SandboxId,
        kind: RuntimeKind,
        spec: SandboxSpec,
        facts: Mapping[str, Any],
    ) -> Site:
        """The site of a sandbox made by an earlier run of the server, alive or not."""
        site = Site(
            sandbox_id,
            spec,
            self._runtimes[kind],
            self._cgroups.group(sandbox_id),
            pid=facts.get("pid"),
        )
        first = facts.get("first_id")
        if first is not None:
            site.ids = self._ids.claim(first)
        site.oom_kills.restore(facts.get("oom"))
        site.sealed = facts.get("secrets")
        self._remember_secrets(site)
        return site

    def has_workdir(self, spec: SandboxSpec) -> bool:
        """Whether its working directory is known to be there from the beginning."""
        return self._images.has_directory(spec.image, spec.workdir)

    def is_alive(self, site: Site) -> bool:
        """Whether its first process still runs. A pid that was given to another program is not in the group."""
        return site.pid is not None and site.pid in site.group.pids()

    def fit(self, site: Site, spec: SandboxSpec) -> None:
        """Wake it, and set what can be set late: some limits, what its network may reach. Raises `NetworkFailed`.

        What was built ahead is given to nobody whose network nobody serves: it is told, unless that is known already.
        """
        site.wake()
        if site.spec.limits != spec.limits:
            pids = spec.limits.pids + site.runtime.capabilities.pids_overhead
            site.group.set_late(cpus=spec.limits.cpu, pids=pids)
        if site.network is not None and site.spec is not spec:
            self._fit_network(site, spec.network)
        site.spec = spec

    def give_secrets(self, site: Site) -> str:
        """Have its secrets put in; the certificate that it must trust. Raises `NetworkFailed`."""
        secrets = site.spec.secrets
        assert self._egress is not None, "a sandbox with a network on a host that gives none"
        authority = make_authority(hosts_of(secrets), datetime.now(UTC))
        keyring = Keyring(secrets, authority.certificate, authority.key)
        site.sealed = self._vault.seal(site.sandbox_id, keyring)
        self._egress.seal(site.sandbox_id, keyring)
        return authority.certificate

    def measure(self, site: Site, *, uptime: float) -> Usage:
        """What it uses now. Raises `FileNotFoundError` for one that is gone."""
        used = read_usage(site.group)
        return Usage(
            cpu=used.cpu_seconds,
            cpu_throttled=used.throttled_seconds,
            cpu_limit=used.cpu_limit,
            memory=used.memory,
            memory_held=used.memory_held,
            memory_peak=used.memory_peak,
            memory_limit=used.memory_limit,
            processes=used.processes,
            processes_limit=used.processes_limit,
            # What is written inside takes blocks of the sparse image, and what is deleted gives them back.
            disk=os.stat(self._paths.disk(site.sandbox_id)).st_blocks * _BLOCK,
            disk_limit=site.spec.limits.disk_mb << 20,
            oom_kills=used.oom_kills + site.oom_kills.own,
            uptime=uptime,
        )

    def has_network(self, site: Site) -> bool:
        """Whether it was created with one, whatever its policy is now."""
        return self._egress is not None and self._egress.has(site.sandbox_id)

    def keep_networks(self, sites: Iterable[Site], *, only_these: bool = False) -> None:
        """Have the networks of these sandboxes served, and of those that are being built or held ready.

        The proxy is started anew where it has ended. With `only_these` nobody else is served any more. Raises
        `NetworkFailed`.
        """
        if self._egress is None:
            return
        with self._policies:
            policies: dict[str, Policy] = {it.sandbox_id: it.spec.network for it in sites}
            self._egress.keep(policies, only_these=only_these)

    def count_networks(self, sites: Iterable[Site]) -> int:
        """Of how many sandboxes a network is to be served: these, and those that are being built or held ready."""
        if self._egress is None:
            return 0
        return self._egress.count_wanting({it.sandbox_id: it.spec.network for it in sites})

    def start_network(self) -> None:
        """Have what serves networks started before the first sandbox asks for one. Raises `NetworkFailed`."""
        if self._egress is not None:
            self._egress.start()

    def set_network(self, site: Site, policy: Policy) -> None:
        """Let another policy hold; what that does not allow is cut. Raises `NetworkFailed`."""
        assert self._egress is not None, "a sandbox with a network on a host that gives none"
        with self._policies:
            self._egress.update(site.sandbox_id, policy)

    def listen_to_networks(self, on_start: Callable[[], None]) -> socket.socket | None:
        """Where the proxy tells what happens until it ends; None where there is none. `on_start`: there is one now."""
        if self._egress is None:
            return None
        self._egress.on_start = on_start
        return self._egress.listen()

    def report_network(self, site: Site) -> Report:
        """What it did with its network. Raises `NetworkFailed`."""
        assert self._egress is not None, "a sandbox with a network on a host that gives none"
        return self._egress.report(site.sandbox_id)

    def remains(self) -> frozenset[str]:
        """Ids of all sandboxes of which anything is on the host."""
        control = set(os.listdir(self._paths.run / "control"))
        disks = {Path(name).stem for name in os.listdir(self._paths.disks)}
        networks = self._egress.list() if self._egress else frozenset()
        return frozenset(control | disks | networks) | self._cgroups.existing()

    def sweep(self, sandbox_id: SandboxId, spec: SandboxSpec) -> bool:
        """Remove what is left of a sandbox that nobody remembers, whatever its runtime was."""
        group = self._cgroups.group(sandbox_id)
        complete = True
        for runtime in self._runtimes.values():
            complete &= self.remove(Site(sandbox_id, spec, runtime, group))
        return complete

    def close(self) -> None:
        """Let go of what the server holds; sandboxes that run go on running."""
        if self._egress is not None:
            self._egress.close()
        self._ids.close()
        self._cgroups.dismantle()

    def dismantle(self) -> None:
        """Remove this server's run directory too. For a server whose sandboxes are all gone."""
        self.close()
        shutil.rmtree(self._paths.run, ignore_errors=True)

    def _fit_network(self, site: Site, policy: Policy) -> None:
        assert self._egress is not None, "a sandbox with a network on a host that gives none"
        if not self._egress.is_kept(site.sandbox_id, policy):
            self.set_network(site, policy)

    def _remember_secrets(self, site: Site) -> None:
        """Know again what an earlier run of the server sealed."""
        if site.sealed is None or self._egress is None:
            return
        try:
            keyring = self._vault.open(site.sandbox_id, site.sealed)
        except CannotOpen as error:
            # Its placeholders are then only that, wherever they are sent.
            _log.error("%s; it goes on without them", error)
            return
        self._egress.remember(site.sandbox_id, keyring)

    def _take_ids(self, site: Site) -> None:
        if site.runtime.capabilities.user_namespace:
            site.ids = self._ids.take()

    def _return_ids(self, site: Site) -> None:
        # Never to two sandboxes at once: a range whose processes could not be killed stays taken, and one that was
        # given back is no longer this sandbox's to give.
        if site.ids is not None and not site.group.pids():
            self._ids.give_back(site.ids)
            site.ids = None

    def _make_control(self, site: Site) -> None:
        control = self._paths.control(site.sandbox_id)
        control.mkdir(mode=0o700)
        owner = site.ids.first if site.ids else 0
        options = f"{_CONTROL_SIZE},uid={owner},gid={owner}"
        kernel.mount("tmpfs", str(control), "tmpfs", _CONTROL_FLAGS, options)

    def _remove_control(self, site: Site) -> None:
        control = self._paths.control(site.sandbox_id)
        if control.exists():
            kernel.unmount(str(control))
            control.rmdir()

    def _make_group(self, site: Site) -> None:
        limits, able = site.spec.limits, site.runtime.capabilities
        memory_mb = limits.memory_mb + able.memory_overhead_mb
        pids = limits.pids + able.pids_overhead
        self._cgroups.create(site.sandbox_id, GroupLimits(limits.cpu, memory_mb << 20, pids))

    def _remove_group(self, site: Site) -> None:
        site.group.remove()

    def _make_disk(self, site: Site) -> None:
        size = site.spec.limits.disk_mb
        make_disk(self._paths.disk(site.sandbox_id), size_mb=size, templates=self._paths.images)

    def _remove_disk(self, site: Site) -> None:
        self._paths.disk(site.sandbox_id).unlink(missing_ok=True)

    def _make_network(self, site: Site) -> None:
        """Begin with it: the runtime is the first who needs it."""
        if site.spec.network.default is Default.NONE:
            return
        if self._egress is None:
            raise errors.RuntimeUnavailable(NO_NETWORKS)
        egress, sandbox_id, policy = self._egress, site.sandbox_id, site.spec.network
        joins = site.runtime.capabilities.joins_network

        def make() -> BinaryIO:
            edge = egress.attach(sandbox_id, policy)
            return open(egress.make_inside(sandbox_id) if joins else edge, "rb")

        site.network = begin(make)

    def _remove_network(self, site: Site) -> None:
        if site.network is not None:
            futures.wait([site.network])
            _let_go(site.network)
        if self._egress is not None:
            self._egress.detach(site.sandbox_id)

    def _start_runtime(self, site: Site) -> None:
        launch = Launch(
            sandbox_id=site.sandbox_id,
            limits=site.spec.limits,
            root=self._images.resolve(site.spec.image),
            disk=self._paths.disk(site.sandbox_id),
            control=self._paths.control(site.sandbox_id),
            group=site.group,
            ids=site.ids,
            user_namespace=self._ids.namespace(site.ids) if site.ids else None,
            open_files=min(site.spec.limits.open_files, self._most_open_files),
            may_linger=self._may_linger,
            network=site.network if site.runtime.capabilities.joins_network else None,
        )
        site.pid = site.runtime.start(launch)

    def _stop_runtime(self, site: Site) -> None:
        site.group.kill(timeout=KILL_TIMEOUT)
        site.runtime.forget(site.sandbox_id)

    def _make_link(self, site: Site) -> None:
        """Join the namespace that a runtime made by itself to the edge; one that was made for it has been before."""
        if site.network is None:
            return
        if not site.runtime.capabilities.joins_network:
            assert self._egress is not None, "a sandbox with a network on a host that gives none"
            with open(f"/proc/{site.pid}/ns/net", "rb") as inside:
                # If not, its number, and so what was opened, may be another program's.
                if not self.is_alive(site):
                    raise RuntimeFailed(f"{site.sandbox_id} ended before it had its network")
                self._egress.join(inside, site.network.result())
        _let_go(site.network)

    def _keep_link(self, site: Site) -> None:
        """It goes with the namespaces that it joins."""


def _let_go(network: Future[BinaryIO]) -> None:
    """Close what keeps a namespace open for its runtime. Repeating it is harmless."""
    if network.exception() is None:
        network.result().close()
