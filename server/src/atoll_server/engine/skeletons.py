# SPDX-License-Identifier: Apache-2.0
"""The directories of ours that images are made of: few and small, made once, then only read.

`host` is the whole `/` of the image `host`, but for `/usr`. `frame` lies above an operator's tree and `base` below it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from atoll_server.network.link import GATEWAY_ADDRESS
from atoll_server.runtimes.stage import make_passable

_LAYOUT_VERSION = "3"
_USER_ID = 1000
_DIRECTORIES: Mapping[str, int] = {
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "home/user": 0o755,
    "media": 0o755,
    "mnt": 0o755,
    "opt": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "run/atoll": 0o755,
    "run/atoll/control": 0o700,
    "run/lock": 0o1777,
    "srv": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    # runsc puts a tmpfs of the host's size over a `/tmp` that is empty, past the disk limit.
    "tmp/.X11-unix": 0o1777,
    "usr": 0o755,
    "var": 0o755,
    "var/cache": 0o755,
    "var/lib": 0o755,
    "var/log": 0o755,
    "var/tmp": 0o1777,
    "workspace": 0o755,
}
# What the runtime and the agent need for themselves, and where a link would lead a mount elsewhere.
_FRAME: Sequence[str] = (
    "dev",
    "etc",
    "proc",
    "run",
    "run/atoll",
    "run/atoll/control",
    "sys",
    "tmp",
    "tmp/.X11-unix",
)
_AGENT = "run/atoll/agent"
# The one name server that a sandbox can reach, whatever its image says.
_RESOLVER = f"nameserver {GATEWAY_ADDRESS}\n"
_OWNED_BY_USER = ("home/user",)
_LIBRARY_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC: Mapping[str, str] = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\n"
    "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
    "user:x:1000:1000:user:/home/user:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\ndaemon:x:1:\ntty:x:5:\nstaff:x:50:\nuser:x:1000:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    "hostname": "atoll\n",
    "resolv.conf": _RESOLVER,
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    "shells": "/bin/sh\n/bin/bash\n",
    "profile": "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
    "fstab": "",
    "machine-id": "",
}
# Files and folders of the host's /etc that programs below /usr cannot do without, and that hold no secret.
_COPIED_FROM_ETC: Sequence[str] = (
    "alternatives",
    "bash.bashrc",
    "ca-certificates.conf",
    "debian_version",
    "fonts",
    "gai.conf",
    "java-17-openjdk/security",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "mime.types",
    "os-release",
    "perl",
    "protocols",
    "python3",
    "python3.11",
    "python3.12",
    "python3.13",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
)


class Skeletons:
    """Keeps the skeletons below `directory`, each named after what it is made from, as sandboxes may still stand on
    an older one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def prepare(self) -> None:
        """Make all of them. Blocks, as the others do."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for make in (self.host, self.frame, self.base):
            make()

    def host(self) -> Path:
        """All that `/usr` of this host needs around it, with what is public of its `/etc` as that is now."""
        return _ensure(self._directory / f"host-{_host_fingerprint()}", _build_host)

    def frame(self) -> Path:
        """Mount points, as plain directories whatever an image has there, and how names are resolved."""
        return _ensure(self._directory / f"frame-{_LAYOUT_VERSION}", _build_frame)

    def base(self) -> Path:
        """What programs expect of a `/` and an image may lack."""
        return _ensure(self._directory / f"base-{_LAYOUT_VERSION}", _build_base)


def is_in_host(directory: str) -> bool:
    """Whether the image `host` has this directory, written without detours."""
    return directory == "/" or directory.removeprefix("/") in _DIRECTORIES


def _host_fingerprint() -> str:
    digest = hashlib.sha256(_LAYOUT_VERSION.encode())
    for name in _COPIED_FROM_ETC:
        with contextlib.suppress(FileNotFoundError):
            digest.update(f"{name} {os.stat(f'/etc/{name}').st_mtime_ns}\n".encode())
    return digest.hexdigest()[:12]


def _ensure(target: Path, build: Callable[[Path], None]) -> Path:
    """Build beside the final name and rename, so that a crash leaves a whole skeleton or none."""
    if target.exists():
        return target
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        building.chmod(0o755)
        build(building)
        building.rename(target)
    except BaseException as error:
        shutil.rmtree(building, ignore_errors=True)
        # Another thread that builds a sandbox has made it in the meantime.
        if not (isinstance(error, OSError) and target.exists()):
            raise
    return target


def _build_host(root: Path) -> None:
    _build_base(root)
    for name in _LIBRARY_LINKS:
        if os.path.islink(f"/{name}"):
            (root / name).symlink_to(f"usr/{name}")
    for name in _COPIED_FROM_ETC:
        _copy_public(Path("/etc", name), root / "etc" / name)
    _make_file(root / _AGENT, mode=0o755)


def _build_frame(root: Path) -> None:
    _make_directories(root, _FRAME)
    _make_file(root / "etc" / "resolv.conf", _RESOLVER)
    _make_file(root / _AGENT, mode=0o755)


def _build_base(root: Path) -> None:
    _make_directories(root, _DIRECTORIES)
    for name, text in _ETC.items():
        _make_file(root / "etc" / name, text)
    (root / "etc" / "mtab").symlink_to("/proc/self/mounts")
    for name in _OWNED_BY_USER:
        os.chown(root / name, _USER_ID, _USER_ID)


def _make_directories(root: Path, names: Iterable[str]) -> None:
    for name in names:
        (root / name).mkdir()
        (root / name).chmod(_DIRECTORIES[name])


def _make_file(path: Path, text: str = "", *, mode: int = 0o644) -> None:
    path.write_text(text)
    path.chmod(mode)  # whatever the server's umask


def _copy_public(source: Path, target: Path) -> None:
    """Copy what everyone on the host may read, links as links; leave the rest out."""
    if not source.exists() and not source.is_symlink():
        return
    make_passable(target.parent, mode=0o755)
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, ignore=_ignore_private)
    elif source.is_symlink() or source.stat().st_mode & 0o004:
        shutil.copy2(source, target, follow_symlinks=False)


def _ignore_private(directory: str, names: list[str]) -> set[str]:
    def private(name: str) -> bool:
        status = os.lstat(os.path.join(directory, name))
        return not status.st_mode & 0o004

    return {name for name in names if private(name)}
