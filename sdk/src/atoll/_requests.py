# SPDX-License-Identifier: Apache-2.0
"""The requests of the native API as bytes, each with when it may be sent again. No I/O."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import quote, quote_from_bytes

from . import _wire
from ._policies import NetworkPolicy, render_network
from .errors import InvalidPort, InvalidRequest
from .models import (
    MAX_PORT,
    MAX_TERMINAL_SIDE,
    ChangeMode,
    ChangeOwner,
    CreateKey,
    CreateSandbox,
    ExecRequest,
    ExposePort,
    FileToRead,
    FileToWrite,
    MakeDirectory,
    MoveFile,
    Network,
    ProcessStatus,
    PtySize,
    ReadFiles,
    ResizePool,
    SandboxState,
    SignalProcess,
    SignPort,
    StartProcess,
    StartWatch,
    WaitProcess,
    WriteFiles,
)

Header = tuple[bytes, bytes]
PathInSandbox = str | bytes | os.PathLike[str] | os.PathLike[bytes]

DEFAULT_COMMAND_TIMEOUT_MS = 60_000
COMMAND_GRACE_SECONDS = 5.0
"""From SIGTERM to SIGKILL."""
COMMAND_MARGIN_SECONDS = 10.0
"""For the server to answer once the command is gone."""
CREATE_SECONDS = 300.0
"""An image may have to come from elsewhere first."""
HEARTBEAT_SILENCE_SECONDS = 60.0
"""Four times as long as a streaming server may be silent."""
PAGE_SIZE = 100

FRAMES_TYPE = b"application/vnd.atoll.frames"
_JSON: Header = (b"Accept", b"application/json")
_JSON_BODY: Header = (b"Content-Type", b"application/json")
_OCTETS: Header = (b"Accept", b"application/octet-stream")
_OCTETS_BODY: Header = (b"Content-Type", b"application/octet-stream")
_TAR: Header = (b"Accept", b"application/x-tar")
_TAR_BODY: Header = (b"Content-Type", b"application/x-tar")
_FRAMES: Header = (b"Accept", FRAMES_TYPE)
_NDJSON: Header = (b"Accept", b"application/x-ndjson")


class Resend(Enum):
    """When a request may be sent again. One that never reached a server always may."""

    ALWAYS = "twice has the effect of once"
    REFUSED = "only when the server said that it had no room for it"
    NEVER = "not once it may have arrived"


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `wait` is how long the answer may take, where that differs from the client's own limit."""

    method: bytes
    target: str
    headers: tuple[Header, ...] = (_JSON,)
    body: bytes | None = None
    resend: Resend = Resend.ALWAYS
    wait: float | None = None


def health() -> Request:
    return Request(b"GET", "/v1/health")


def list_images() -> Request:
    return Request(b"GET", "/v1/images")


def get_pool() -> Request:
    return Request(b"GET", "/v1/pool")


def resize_pool(size: int) -> Request:
    body = _wire.encode(ResizePool, {"size": size})
    return Request(b"PUT", "/v1/pool", (_JSON, _JSON_BODY), body)


def create_key(*, name: str | None, scopes: str | Sequence[str] | None) -> Request:
    # "a b" means what ["a", "b"] does; a text must not be taken for a list of letters.
    words = scopes.replace(",", " ").split() if isinstance(scopes, str) else scopes
    values = {"name": name, "scopes": None if words is None else list(words)}
    return _post("/v1/keys", _wire.encode(CreateKey, values), resend=Resend.REFUSED)


def list_keys() -> Request:
    return Request(b"GET", "/v1/keys")


def delete_key(key_id: str) -> Request:
    # Sent twice, the second answer could be "not found" for what the first removed.
    return Request(b"DELETE", "/v1/keys/" + _id("a key", key_id), resend=Resend.REFUSED)


def create_sandbox(values: Mapping[str, Any]) -> Request:
    return _post(
        "/v1/sandboxes",
        _wire.encode(CreateSandbox, values),
        resend=Resend.REFUSED,
        wait=CREATE_SECONDS,
    )


def get_sandbox(sandbox_id: str) -> Request:
    return Request(b"GET", _sandbox(sandbox_id))


def list_sandboxes(
    *,
    state: SandboxState | str | None,
    metadata: Mapping[str, str] | None,
    limit: int | None,
    offset: int | None,
) -> Request:
    query = {
        "state": None if state is None else _word(state),
        "limit": PAGE_SIZE if limit is None else limit,
        "offset": offset,
    }
    query.update({f"metadata[{key}]": value for key, value in (metadata or {}).items()})
    return Request(b"GET", _with_query("/v1/sandboxes", query))


def get_metrics(sandbox_id: str) -> Request:
    return Request(b"GET", _sandbox(sandbox_id) + "/metrics")


def get_network(sandbox_id: str) -> Request:
    return Request(b"GET", _sandbox(sandbox_id) + "/network")


def set_network(sandbox_id: str, policy: NetworkPolicy) -> Request:
    body = _wire.encode(Network, render_network(policy))
    return Request(b"PUT", _sandbox(sandbox_id) + "/network", (_JSON, _JSON_BODY), body)


def terminate_sandbox(sandbox_id: str) -> Request:
    return Request(b"DELETE", _sandbox(sandbox_id))


def execute(sandbox_id: str, values: Mapping[str, Any], *, framed: bool) -> Request:
    timeout_ms = values.get("timeout_ms") or DEFAULT_COMMAND_TIMEOUT_MS
    wait = COMMAND_GRACE_SECONDS + COMMAND_MARGIN_SECONDS
    if isinstance(timeout_ms, int):  # else the server says what is wrong with it
        wait += timeout_ms / 1000
    return Request(
        b"POST",
        _sandbox(sandbox_id) + "/execute",
        headers=(_FRAMES if framed else _JSON, _JSON_BODY),
        body=_wire.encode(ExecRequest, values),
        resend=Resend.NEVER,
        wait=min(wait, HEARTBEAT_SILENCE_SECONDS) if framed else wait,
    )


def exec_values(
    command: object,
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    run_as: str | None = None,
    stdin: str | bytes | None = None,
    timeout_ms: int | None = None,
) -> dict[str, Any]:
    """The fields of an `ExecRequest`, those that are None being left out later."""
    return {
        "command": _check_command(command),
        "cwd": None if cwd is None else os.fspath(cwd),
        "env": env,
        "user": user,
        "run_as": run_as,
        "timeout_ms": timeout_ms,
        **_encode_stdin(stdin),
    }


def _check_command(command: object) -> str | list[str]:
    # A list of one program must not be mistaken for text, nor text for a list.
    if isinstance(command, str):
        return command
    if isinstance(command, Sequence) and not isinstance(command, bytes | bytearray):
        words = [os.fspath(word) if isinstance(word, os.PathLike) else word for word in command]
        if all(isinstance(word, str) for word in words):
            return words
    raise InvalidRequest(
        f"command must be text for a shell or a sequence of text, not {command!r:.80}"
    )


def _encode_stdin(stdin: object) -> dict[str, str | None]:
    if isinstance(stdin, bytes | bytearray | memoryview):
        return {"stdin": base64.b64encode(stdin).decode(), "stdin_encoding": "base64"}
    if stdin is None or isinstance(stdin, str):
        return {"stdin": stdin}
    raise InvalidRequest(f"stdin is text or bytes, not {type(stdin).__name__}")


def start_process(sandbox_id: str, values: Mapping[str, Any]) -> Request:
    return _post(
        _sandbox(sandbox_id) + "/processes",
        _wire.encode(StartProcess, values),
        resend=Resend.REFUSED,
    )


def process_values(
    command: object,
    *,
    pty: PtySize | Sequence[int] | None = None,
    stdin_open: bool = False,
    tag: str | None = None,
    idle_timeout_ms: int | None = None,
    **exec_options: Any,
) -> dict[str, Any]:
    """The fields of a `StartProcess`, those that are None being left out later."""
    return {
        **exec_values(command, **exec_options),
        "stdin_open": stdin_open or None,
        "tag": tag,
        "pty": None if pty is None else pty_size(pty),
        "idle_timeout_ms": idle_timeout_ms,
    }


def pty_size(size: object) -> PtySize:
    """The size of a terminal, of `PtySize(rows, cols)` or such as `(24, 80)`."""
    if isinstance(size, PtySize):
        rows, cols = size.rows, size.cols
    elif isinstance(size, tuple | list) and len(size) == 2:
        rows, cols = size
    else:
        raise InvalidRequest(f"a terminal's size is (rows, cols), not {size!r:.80}")
    for side in (rows, cols):
        if type(side) is not int or not 1 <= side <= MAX_TERMINAL_SIDE:
            raise InvalidRequest(
                f"a terminal has 1 to {MAX_TERMINAL_SIDE} rows and cols, not {side!r:.80}"
            )
    return PtySize(rows, cols)


def list_processes(
    sandbox_id: str,
    *,
    status: ProcessStatus | str | Sequence[ProcessStatus | str] | None = None,
    tag: str | None = None,
    pid: int | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Request:
    words = [status] if isinstance(status, str) else status
    query = {
        "status": None if words is None else ",".join(_word(word) for word in words),
        "tag": tag,
        "pid": pid,
        "limit": PAGE_SIZE if limit is None else limit,
        "cursor": cursor,
    }
    return Request(b"GET", _with_query(_sandbox(sandbox_id) + "/processes", query))


def get_process(sandbox_id: str, process_id: str) -> Request:
    return Request(b"GET", _process(sandbox_id, process_id))


def kill_process(sandbox_id: str, process_id: str) -> Request:
    return Request(b"DELETE", _process(sandbox_id, process_id))


def stream_process(sandbox_id: str, process_id: str, *, since: int, follow: bool) -> Request:
    query = {"since": since, "follow": None if follow else False}
    return Request(
        b"GET",
        _with_query(_process(sandbox_id, process_id) + "/stream", query),
        headers=(_FRAMES,),
        wait=HEARTBEAT_SILENCE_SECONDS,
    )


def wait_process(sandbox_id: str, process_id: str, *, timeout_ms: int) -> Request:
    return _post(
        _process(sandbox_id, process_id) + "/wait",
        _wire.encode(WaitProcess, {"timeout_ms": timeout_ms}),
        resend=Resend.ALWAYS,
        wait=timeout_ms / 1000 + COMMAND_MARGIN_SECONDS,
    )


def signal_process(sandbox_id: str, process_id: str, signal: object, *, tree: bool) -> Request:
    return _post(
        _process(sandbox_id, process_id) + "/signal",
        _wire.encode(SignalProcess, {"signal": signal_value(signal), "tree": tree}),
        resend=Resend.REFUSED,
    )


def signal_value(signal: object) -> str | int:
    """A signal as it travels: a name, or a number, which `signal.SIGTERM` is one of."""
    if isinstance(signal, str) and signal:
        return int(signal) if signal.isascii() and signal.isdecimal() else signal.upper()
    if isinstance(signal, int) and not isinstance(signal, bool) and signal > 0:
        return int(signal)
    raise InvalidRequest(f'a signal is such as "TERM" or 15, not {signal!r:.80}')


def write_stdin(sandbox_id: str, process_id: str, data: object, *, eof: bool) -> Request:
    if not isinstance(data, str | bytes | bytearray | memoryview):
        raise InvalidRequest(f"input is text or bytes, not {type(data).__name__}")
    query = {"eof": eof or None}
    return Request(
        b"POST",
        _with_query(_process(sandbox_id, process_id) + "/stdin", query),
        headers=(_JSON, _OCTETS_BODY),
        body=encode_text(data) if isinstance(data, str) else bytes(data),
        resend=Resend.NEVER,
    )


def encode_text(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"not valid Unicode: {text!r:.80}") from None


def resize_process(sandbox_id: str, process_id: str, size: PtySize) -> Request:
    return _post(
        _process(sandbox_id, process_id) + "/resize",
        _wire.encode(PtySize, {"rows": size.rows, "cols": size.cols}),
        resend=Resend.ALWAYS,
    )


def attach_process(sandbox_id: str, process_id: str, *, since: int | None) -> Request:
    """To be sent as the handshake of a WebSocket."""
    if since is not None:
        check_since(since)
    target = _process(sandbox_id, process_id) + "/attach"
    return Request(b"GET", _with_query(target, {"since": since}), headers=())


def check_since(since: object, *, counts: str = "bytes") -> None:
    if type(since) is not int or since < 0:
        raise InvalidRequest(f"since is a number of {counts}, not {since!r:.80}")


def read_file(
    sandbox_id: str,
    path: PathInSandbox,
    *,
    offset: int = 0,
    length: int | None = None,
    if_range: bytes | None = None,
) -> Request:
    headers = [_OCTETS]
    if (span := render_range(offset, length)) is not None:
        headers.append((b"Range", span))
        headers += [] if if_range is None else [(b"If-Range", if_range)]
    return Request(b"GET", _files(sandbox_id, "", path), headers=tuple(headers))


def render_range(offset: object, length: object) -> bytes | None:
    """`length` bytes from `offset` on, or None for all. HTTP has no word for no bytes: one is asked for."""
    if type(offset) is not int or offset < 0:
        raise InvalidRequest(f"offset is a number of bytes from the start, not {offset!r:.80}")
    if length is None:
        return b"bytes=%d-" % offset if offset else None
    if type(length) is not int or length < 0:
        raise InvalidRequest(f"length is a number of bytes, or None for all, not {length!r:.80}")
    return b"bytes=%d-%d" % (offset, offset + max(length, 1) - 1)


def write_files(sandbox_id: str, files: Sequence[FileToWrite]) -> Request:
    body = _wire.encode(WriteFiles, {"files": files})
    return _post_file(sandbox_id, "batch/write", body, Resend.ALWAYS)


def read_files(sandbox_id: str, paths: Sequence[PathInSandbox]) -> Request:
    files = [FileToRead(**encode_paths(path=path)) for path in paths]
    return _post_file(
        sandbox_id, "batch/read", _wire.encode(ReadFiles, {"files": files}), Resend.ALWAYS
    )


def write_file(
    sandbox_id: str,
    path: PathInSandbox,
    *,
    mode: int | str | None = None,
    append: bool = False,
    size: int | None = None,
    body: bytes | None = None,
    replayable: bool = True,
) -> Request:
    return Request(
        b"PUT",
        _files(sandbox_id, "", path, mode=render_mode(mode), append=append or None),
        headers=(_JSON, _OCTETS_BODY, *(_length(size) if body is None else ())),
        body=body,
        resend=Resend.ALWAYS if replayable and not append else Resend.NEVER,
    )


def remove_file(sandbox_id: str, path: PathInSandbox, *, recursive: bool) -> Request:
    # Sent twice, the second answer could be "not found" for what the first removed.
    return Request(
        b"DELETE",
        _files(sandbox_id, "", path, recursive=recursive or None),
        resend=Resend.REFUSED,
    )


def list_files(sandbox_id: str, path: PathInSandbox, *, depth: int, limit: int | None) -> Request:
    return Request(b"GET", _files(sandbox_id, "/list", path, depth=depth, limit=limit))


def stat_file(sandbox_id: str, path: PathInSandbox, *, follow: bool) -> Request:
    return Request(b"GET", _files(sandbox_id, "/stat", path, follow=follow))


def file_exists(sandbox_id: str, path: PathInSandbox) -> Request:
    return Request(b"GET", _files(sandbox_id, "/exists", path))


def make_directory(
    sandbox_id: str, path: PathInSandbox, *, parents: bool, mode: int | str | None
) -> Request:
    values = {
        **encode_paths(path=path),
        "parents": parents or None,
        "mode": render_mode(mode),
    }
    return _post_file(sandbox_id, "mkdir", _wire.encode(MakeDirectory, values))


def move_file(sandbox_id: str, source: PathInSandbox, destination: PathInSandbox) -> Request:
    return _post_file(sandbox_id, "move", _encode_move(source, destination))


def copy_file(sandbox_id: str, source: PathInSandbox, destination: PathInSandbox) -> Request:
    return _post_file(sandbox_id, "copy", _encode_move(source, destination))


def change_mode(
    sandbox_id: str, path: PathInSandbox, mode: int | str, *, recursive: bool
) -> Request:
    values = {
        **encode_paths(path=path),
        "mode": render_mode(mode),
        "recursive": recursive or None,
    }
    return _post_file(sandbox_id, "chmod", _wire.encode(ChangeMode, values), Resend.ALWAYS)


def change_owner(
    sandbox_id: str,
    path: PathInSandbox,
    *,
    user: str | int,
    group: str | int | None,
    recursive: bool,
) -> Request:
    values = {
        **encode_paths(path=path),
        "user": str(user),
        "group": None if group is None else str(group),
        "recursive": recursive or None,
    }
    return _post_file(sandbox_id, "chown", _wire.encode(ChangeOwner, values), Resend.ALWAYS)


def pack_directory(sandbox_id: str, path: PathInSandbox) -> Request:
    return Request(b"GET", _files(sandbox_id, "/archive", path), headers=(_TAR,))


def unpack_directory(sandbox_id: str, path: PathInSandbox) -> Request:
    return Request(
        b"PUT",
        _files(sandbox_id, "/archive", path),
        headers=(_JSON, _TAR_BODY, *_length(None)),
        resend=Resend.NEVER,
    )


def start_watch(
    sandbox_id: str, path: PathInSandbox, *, recursive: bool, linger_ms: int | None
) -> Request:
    values = {
        **encode_paths(path=path),
        "recursive": recursive or None,
        "linger_ms": linger_ms,
    }
    body = _wire.encode(StartWatch, values)
    return _post(_sandbox(sandbox_id) + "/watches", body, resend=Resend.REFUSED)


def list_watches(sandbox_id: str) -> Request:
    return Request(b"GET", _sandbox(sandbox_id) + "/watches")


def get_watch(sandbox_id: str, watch_id: str) -> Request:
    return Request(b"GET", _watch(sandbox_id, watch_id))


def stop_watch(sandbox_id: str, watch_id: str) -> Request:
    return Request(b"DELETE", _watch(sandbox_id, watch_id))


def stream_changes(sandbox_id: str, watch_id: str, *, since: int, follow: bool) -> Request:
    query = {"since": since, "follow": None if follow else False}
    return Request(
        b"GET",
        _with_query(_watch(sandbox_id, watch_id) + "/changes", query),
        headers=(_NDJSON,),
        wait=HEARTBEAT_SILENCE_SECONDS,
    )


def stream_events(
    sandbox_id: str | None, *, types: Sequence[str], since: str | None, follow: bool
) -> Request:
    above = "/v1" if sandbox_id is None else _sandbox(sandbox_id)
    query = {"since": since, "follow": None if follow else False}
    target = _with_query(above + "/events", query)
    for name in types:
        separator = "&" if "?" in target else "?"
        target = _with_query(target, {"type": name}, separator)
    return Request(b"GET", target, headers=(_NDJSON,), wait=HEARTBEAT_SILENCE_SECONDS)


def expose_port(sandbox_id: str, port: int, *, private: bool | None) -> Request:
    body = _wire.encode(ExposePort, {"port": check_port(port), "private": private})
    return _post(_sandbox(sandbox_id) + "/ports", body, resend=Resend.ALWAYS)


def list_ports(sandbox_id: str) -> Request:
    return Request(b"GET", _sandbox(sandbox_id) + "/ports")


def close_port(sandbox_id: str, port: int) -> Request:
    # Sent twice, the second answer could be "not exposed" for what the first closed.
    return Request(b"DELETE", _port(sandbox_id, port), resend=Resend.REFUSED)


def sign_port(sandbox_id: str, port: int, *, lasts_ms: int) -> Request:
    body = _wire.encode(SignPort, {"lasts_ms": lasts_ms})
    return _post(_port(sandbox_id, port) + "/sign", body, resend=Resend.ALWAYS)


def list_listening(sandbox_id: str, port: int | None = None, *, wait_ms: int = 0) -> Request:
    query = {"port": None if port is None else check_port(port), "waitMs": wait_ms or None}
    target = _with_query(_sandbox(sandbox_id) + "/ports/listening", query)
    return Request(b"GET", target, wait=wait_ms / 1000 + COMMAND_MARGIN_SECONDS)


def dial_port(sandbox_id: str, port: int) -> Request:
    return Request(b"GET", _port(sandbox_id, port) + "/dial")


def check_port(port: object) -> int:
    """A port as a number; whether it can be exposed the server says."""
    if type(port) is not int or not 0 <= port <= MAX_PORT:
        raise InvalidPort(f"a port is a number from 1 to {MAX_PORT}, not {port!r:.80}")
    return port


def render_mode(mode: int | str | None) -> str | None:
    """Permission bits as they travel: octal digits. Text is taken as such, a number as its value: 0o755."""
    if mode is None or isinstance(mode, str):
        return mode
    if type(mode) is not int or not 0 <= mode <= 0o7777:
        raise InvalidRequest(f'mode must be such as 0o755 or "0755", not {mode!r:.80}')
    return f"{mode:04o}"


def _sandbox(sandbox_id: str) -> str:
    return "/v1/sandboxes/" + _id("a sandbox", sandbox_id)


def _process(sandbox_id: str, process_id: str) -> str:
    return f"{_sandbox(sandbox_id)}/processes/{_id('a process', process_id)}"


def _watch(sandbox_id: str, watch_id: str) -> str:
    return f"{_sandbox(sandbox_id)}/watches/{_id('a watch', watch_id)}"


def _port(sandbox_id: str, port: int) -> str:
    return f"{_sandbox(sandbox_id)}/ports/{check_port(port)}"


def _word(word: object) -> str:
    return str(getattr(word, "value", word))


def _id(whose: str, text: str) -> str:
    if type(text) is not str or not text:
        raise InvalidRequest(
            f"{whose} id is text, such as the one its creation gave, not {text!r:.80}"
        )
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise InvalidRequest(f"{whose} id is text, not {text!r:.80}") from None


def _files(sandbox_id: str, verb: str, path: PathInSandbox, **query: Any) -> str:
    quoted = quote_from_bytes(path_bytes(path), safe="/")
    return _with_query(f"{_sandbox(sandbox_id)}/files{verb}?path={quoted}", query, separator="&")


def _with_query(target: str, query: Mapping[str, Any], separator: str = "?") -> str:
    pairs = [
        f"{quote(key, safe='')}={quote(_query_text(value), safe='')}"
        for key, value in query.items()
        if value is not None
    ]
    return target + separator + "&".join(pairs) if pairs else target


def _query_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        return str(value).encode().decode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"not valid Unicode: {value!r:.80}") from None


def path_bytes(path: PathInSandbox) -> bytes:
    try:
        plain = os.fspath(path)
    except TypeError:
        raise InvalidRequest(f"a path is text or bytes, not {path!r:.80}") from None
    if isinstance(plain, bytes):
        return plain
    try:
        # Escapes of bytes that are not UTF-8, as `os.fsdecode` makes them, become those bytes again.
        return plain.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidRequest(
            f"a path has surrogates that stand for no byte: {path!r:.80}"
        ) from None


def encode_paths(**paths: PathInSandbox) -> dict[str, str]:
    """These fields of a body: as they are, or in base64 where one is not UTF-8, which JSON cannot hold."""
    raw = {name: path_bytes(path) for name, path in paths.items()}
    try:
        return {name: path.decode() for name, path in raw.items()}
    except UnicodeDecodeError:
        encoded = {name: base64.b64encode(path).decode() for name, path in raw.items()}
        return {**encoded, "path_encoding": "base64"}


def _encode_move(source: PathInSandbox, destination: PathInSandbox) -> bytes:
    return _wire.encode(MoveFile, encode_paths(source=source, destination=destination))


def _post_file(sandbox_id: str, verb: str, body: bytes, resend: Resend = Resend.REFUSED) -> Request:
    return _post(f"{_sandbox(sandbox_id)}/files/{verb}", body, resend=resend)


def _post(target: str, body: bytes, *, resend: Resend, wait: float | None = None) -> Request:
    return Request(
        b"POST", target, headers=(_JSON, _JSON_BODY), body=body, resend=resend, wait=wait
    )


def _length(size: int | None) -> tuple[Header, ...]:
    if size is None:
        return ((b"Transfer-Encoding", b"chunked"),)
    return ((b"Content-Length", b"%d" % size),)
