#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Installs what `make` needs, once: system packages, `.venv`, the agent binary.

    setup.py            what it takes to run Atoll and its quick checks
    setup.py --tests    also what the whole test suite wants to find on the host

Runs on the system's Python with the standard library alone. When nothing is missing it does nothing, and says nothing.
"""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "atoll: Python 3.11 or newer is needed, this is "
        + sys.version.split()[0]
        + " (make PYTHON=python3.11 …)"
    )

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build"
VENV = ROOT / ".venv"
AGENT = ROOT / "server" / "src" / "atoll_server" / "_bin" / "atoll-agent"
NO_GVISOR = BUILD / "gvisor-unavailable"
VITE = BUILD / "vite"
NO_VITE = BUILD / "vite-unavailable"

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

OLDEST_GVISOR = 20230601
"""Earlier releases of runsc know only ptrace, which is slow and gone from later ones."""

VITE_VERSION = "5.4.21"
"""The development server that previews are tested with: of the last line that runs on Debian 12's Node."""


class SetupError(Exception):
    """What could not be done, and what to do about it."""


@dataclass(frozen=True)
class Source:
    """One place packages come from, as apt's configuration names it."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    options: tuple[str, ...]
    """Written as in a one-line entry: `signed-by=/path`."""


def main(arguments: list[str]) -> int:
    BUILD.mkdir(exist_ok=True)
    os.environ["PATH"] = os.environ.get("PATH", "") + os.pathsep + SYSTEM_PATH + _cargo_directory()
    with (BUILD / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            install_system_packages(tests="--tests" in arguments)
            install_python_packages()
            build_agent()
            if "--tests" in arguments:
                install_vite()
        except SetupError as error:
            print(f"atoll: {error}", file=sys.stderr)
            return 1
    return 0


# System packages.


def install_system_packages(*, tests: bool) -> None:
    wanted = missing_packages(
        _find_program, has_header=Path("/usr/include/stdio.h").exists(), tests=tests
    )
    gvisor = not _has_gvisor() and not NO_GVISOR.exists()
    if not wanted and not gvisor:
        return
    if not shutil.which("apt-get"):
        if wanted:
            raise SetupError(
                f"this host has no apt-get; install what these Debian packages hold: {' '.join(wanted)}"
            )
        return
    if os.geteuid() != 0:
        names = " ".join([*wanted, *(["runsc"] if gvisor else [])])
        raise SetupError(f"missing packages: {names}; run make as root, or install them yourself")
    with _step("reading package lists"):
        updated = _run(["apt-get", "update", "-q", "-y"], check=False)
    if wanted:
        with _step(f"installing {' '.join(wanted)}"):
            _apt_install(wanted, updated)
    if gvisor:
        _install_gvisor()


def missing_packages(
    find: Callable[[str], bool], *, has_header: bool, tests: bool = False
) -> list[str]:
    """The Debian packages that hold what is missing here."""
    packages = []
    if not find("crun") and not find("runc"):
        packages.append("crun")
    if not find("cargo"):
        packages += ["cargo", "rustc"]
    if not find("cc"):
        packages.append("gcc")
    if not has_header:
        packages.append("libc6-dev")
    wanted = {**_PACKAGES, **(_TEST_PACKAGES if tests else {})}
    packages += [package for program, package in wanted.items() if not find(program)]
    if not VENV.exists() and not _has_module("ensurepip"):
        packages.append("python3-venv")
    return packages


_PACKAGES = {"mkfs.ext4": "e2fsprogs", "ip": "iproute2"}
# Previews are looked at by a browser, and one of them is Vite's.
_BROWSER_PACKAGES = {"chromium": "chromium", "node": "nodejs", "npm": "npm"}
# runc is the second choice beside crun, and must work too; tests look around in sandboxes with ps and pgrep, and work
# at terminals with top, less and vi, make certificates with openssl, and look at the rules of an edge with nft.
_TEST_PACKAGES = {
    "runc": "runc",
    "pgrep": "procps",
    "less": "less",
    "vi": "vim-tiny",
    "openssl": "openssl",
    "nft": "nftables",
    **_BROWSER_PACKAGES,
}


def _apt_install(packages: list[str], updated: subprocess.CompletedProcess[str]) -> None:
    result = _run([*_APT_INSTALL, *packages], check=False)
    if result.returncode and "crun" in packages:
        result = _run(
            [*_APT_INSTALL, *("runc" if name == "crun" else name for name in packages)], check=False
        )
    if result.returncode:
        raise SetupError(
            f"apt-get could not install {' '.join(packages)}:\n{updated.stdout}{result.stdout}"
            "see that apt-get works on this host, then run make again"
        )


_APT_INSTALL = ["apt-get", "install", "-q", "-y", "--no-install-recommends"]


# gVisor, which Debian 12 has too old, and its backports new enough.


def _has_gvisor() -> bool:
    path = shutil.which("runsc")
    if path is None:
        return False
    stamp = BUILD / "gvisor-version"
    identity = f"{path} {os.stat(path).st_mtime_ns}"
    if not stamp.exists() or not stamp.read_text().startswith(identity):
        output = _run([path, "--version"], check=False).stdout
        stamp.write_text(f"{identity} {gvisor_release(output)}")
    return int(stamp.read_text().rsplit(" ", 1)[1]) >= OLDEST_GVISOR


def gvisor_release(version: str) -> int:
    """The date in a version of runsc, as a number: 20240729. 0 when there is none."""
    found = re.search(r"\b(20\d{6})\b", version)
    return int(found.group(1)) if found else 0


def _install_gvisor() -> None:
    release = _os_release()
    codename = release.get("VERSION_CODENAME", "")
    reason = "this is not Debian"
    if release.get("ID") == "debian" and codename:
        with _step("installing gVisor (runsc) from Debian's backports"):
            reason = _install_from_backports(codename)
    if reason:
        NO_GVISOR.write_text(reason + "\n")
        first_line = reason.strip().splitlines()[-1]
        print(f"  going on without gVisor, sandboxes will be containers: {first_line}")
        print(f"  to try again: rm {NO_GVISOR.relative_to(ROOT)}; make setup")


def _install_from_backports(codename: str) -> str:
    """Empty when installed, else why not. The host's own apt configuration stays as it is."""
    sources = _apt_sources()
    suite = f"{codename}-backports"
    entry = backports_entry(sources, codename)
    if entry is None:
        return f"no source of {codename} in /etc/apt to take the mirror from"
    with tempfile.TemporaryDirectory(prefix="atoll-apt-") as directory:
        only = Path(directory, "backports.list")
        only.write_text(entry + "\n")
        update = _run(
            [
                "apt-get", "update", "-q", "-o", f"Dir::Etc::sourcelist={only}", "-o", "Dir::Etc::sourceparts=-",
                "-o", "APT::Get::List-Cleanup=0",
            ],
            check=False,
        )  # fmt: skip
        parts = _with_host_sources(Path(directory, "parts"), only)
        options = ["-o", f"Dir::Etc::sourceparts={parts}"]
        listed = _run(["apt-cache", *options, "madison", "runsc"], check=False)
        if not any(
            gvisor_release(line) >= OLDEST_GVISOR
            for line in listed.stdout.splitlines()
            if suite in line
        ):
            return f"{update.stdout}\n{suite} has no runsc new enough, or could not be reached"
        install = _run([*_APT_INSTALL, *options, f"runsc/{suite}"], check=False)
    return install.stdout + "\napt-get install failed" if install.returncode else ""


def _with_host_sources(parts: Path, extra: Path) -> Path:
    parts.mkdir()
    for path in [*Path("/etc/apt/sources.list.d").glob("*"), extra]:
        shutil.copy(path, parts / path.name)
    return parts


def backports_entry(sources: list[Source], codename: str) -> str | None:
    """A one-line entry for the backports of the mirror that `codename` itself comes from."""
    for source in sources:
        if codename in source.suites and "main" in source.components:
            options = f"[{' '.join(source.options)}] " if source.options else ""
            return f"deb {options}{source.uri} {codename}-backports main"
    return None


def _apt_sources() -> list[Source]:
    sources: list[Source] = []
    directory = Path("/etc/apt/sources.list.d")
    for path in [Path("/etc/apt/sources.list"), *sorted(directory.glob("*.list"))]:
        if path.exists():
            sources += parse_one_line_sources(path.read_text(errors="replace"))
    for path in sorted(directory.glob("*.sources")):
        sources += parse_deb822_sources(path.read_text(errors="replace"))
    return sources


def parse_one_line_sources(text: str) -> list[Source]:
    """Reads the classic format: `deb [options] uri suite component…`."""
    pattern = re.compile(r"^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)", re.MULTILINE)
    return [
        Source(uri, (suite,), tuple(components.split()), tuple((options or "").split()))
        for options, uri, suite, components in pattern.findall(text)
    ]


def parse_deb822_sources(text: str) -> list[Source]:
    """Reads stanzas of `Types`, `URIs`, `Suites`, `Components`. An embedded key is left out: apt's own keys serve."""
    sources = []
    for stanza in re.split(r"\n\s*\n", text):
        lines = [line for line in stanza.splitlines() if not line.startswith("#")]
        fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", "\n".join(lines), re.MULTILINE))
        if "deb" not in fields.get("Types", "").split() or fields.get("Enabled", "yes").lower() in (
            "no",
            "false",
        ):
            continue
        names = {"Signed-By": "signed-by", "Trusted": "trusted", "Architectures": "arch"}
        options = [
            f"{option}={','.join(fields[name].split())}"
            for name, option in names.items()
            if fields.get(name, "").strip()
        ]
        sources += [
            Source(
                uri,
                tuple(fields.get("Suites", "").split()),
                tuple(fields.get("Components", "").split()),
                tuple(options),
            )
            for uri in fields.get("URIs", "").split()
        ]
    return sources


# Python packages.


def install_python_packages() -> None:
    stamp = VENV / ".atoll-stamp"
    inputs = [
        *sorted((ROOT / "requirements").glob("*.txt")),
        *(ROOT / name / "pyproject.toml" for name in ("sdk", "server")),
    ]
    digest = hashlib.sha256(f"{ROOT} {sys.version_info[:2]}".encode())
    for path in inputs:
        digest.update(path.read_bytes())
    if (
        stamp.exists()
        and stamp.read_text() == digest.hexdigest()
        and (VENV / "bin" / "python").exists()
    ):
        return
    pip = [
        str(VENV / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
    ]
    with _step("installing Python packages into .venv"):
        if not (VENV / "bin" / "python").exists():
            _run([sys.executable, "-m", "venv", "--clear", str(VENV)])
        _run([*pip, "-r", str(ROOT / "requirements" / "dev.txt")])
        editable = [word for name in ("sdk", "server") for word in ("-e", str(ROOT / name))]
        _run([*pip, "--no-deps", "--no-build-isolation", *editable])
    stamp.write_text(digest.hexdigest())


# The agent.


def build_agent() -> None:
    crate = ROOT / "agent"
    sources = [
        path
        for path in (
            crate / "Cargo.toml",
            crate / "Cargo.lock",
            crate / "build.rs",
            *crate.glob(".cargo/*"),
            *crate.rglob("src/**/*.rs"),
        )
        if path.exists()
    ]
    if AGENT.exists() and all(path.stat().st_mtime <= AGENT.stat().st_mtime for path in sources):
        return
    with _step("building the agent"):
        _run(["cargo", "build", "--release", "--quiet", "--offline"], cwd=crate)
        built = max(
            crate.glob("target/**/release/atoll-agent"),
            key=lambda path: path.stat().st_mtime,
            default=None,
        )
        if built is None:
            raise SetupError("cargo built no atoll-agent below agent/target")
        AGENT.parent.mkdir(exist_ok=True)
        temporary = AGENT.with_suffix(".new")
        shutil.copy(built, temporary)
        temporary.chmod(0o755)
        temporary.rename(AGENT)


# Vite, for the tests of previews, from wherever npm is set up to fetch.


def install_vite() -> None:
    installed = VITE / "node_modules" / "vite" / "package.json"
    if NO_VITE.exists() or (
        installed.exists() and f'"version": "{VITE_VERSION}"' in installed.read_text()
    ):
        return
    with _step(f"installing Vite {VITE_VERSION} into {VITE.relative_to(ROOT)}"):
        shutil.rmtree(VITE, ignore_errors=True)
        VITE.mkdir()
        reason = _npm_install(f"vite@{VITE_VERSION}")
    if reason:
        NO_VITE.write_text(reason + "\n")
        print(f"  going on without it, its tests are skipped: {reason.splitlines()[-1]}")
        print(f"  to try again: rm {NO_VITE.relative_to(ROOT)}; make test-setup")


def _npm_install(package: str) -> str:
    """Empty when installed, else why not."""
    options = [
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        "--no-package-lock",
        "--loglevel=error",
    ]
    try:
        result = _run(["npm", "install", *options, "--prefix", str(VITE), package], check=False)
    except SetupError as error:
        return str(error)
    return f"npm could not fetch {package}: {result.stdout.strip()}" if result.returncode else ""


# What all of them use.


def _run(
    command: list[str], *, check: bool = True, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        result = subprocess.run(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
        )  # fmt: skip
    except OSError as error:
        raise SetupError(f"could not start {command[0]}: {error}") from error
    if check and result.returncode:
        raise SetupError(
            f"this failed with status {result.returncode}: {' '.join(command)}\n{result.stdout}"
            "mend what it says and run make again; it goes on where it stopped"
        )
    return result


@contextmanager
def _step(what: str) -> Iterator[None]:
    print(f"  {what} … ", end="", flush=True)
    started = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{time.monotonic() - started:.0f} s", flush=True)


def _find_program(name: str) -> bool:
    return shutil.which(name) is not None


def _has_module(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def _cargo_directory() -> str:
    """Where rustup puts cargo, which a plain root shell does not always have on its path."""
    return os.pathsep + str(Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo")) / "bin")


def _os_release() -> dict[str, str]:
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return {}
    return {key: value.strip('"') for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
