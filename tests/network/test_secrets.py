# SPDX-License-Identifier: Apache-2.0
"""Secrets from the SDK to the host that they are for, past a sandbox that never has them."""

from __future__ import annotations

import base64
import json
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll import Atoll, InvalidConfig, Sandbox, Secret, SecretInfo
from tests.support.asking import SEARCH, SPEAK, ask
from tests.support.internet import SHARED, Internet
from tests.support.server import ServerProcess

VALUE = "sk-the-real-value-of-this-secret-0123456789-abcdef"
OTHER_VALUE = "another-value-that-nobody-inside-may-see"
ALLOWED = ["a.test", "neighbour.test", "*.w.test", "other.test", "impostor.test"]
SECRETS = {
    "API_KEY": Secret(VALUE, hosts=["a.test", "*.w.test", "impostor.test"]),
    "STRICT": Secret(OTHER_VALUE, hosts=["other.test"], header="X-Token"),
}

POST = "POST / HTTP/1.1\r\nHost: a.test\r\n"
BEARER = {"Authorization": "Bearer $API_KEY"}


@pytest.fixture
def client(trusting: ServerProcess, internet: Internet) -> Iterator[Atoll]:
    internet.heard.clear()
    internet.bodies.clear()
    internet.requests.clear()
    with Atoll(api_url=f"unix://{trusting.socket}", api_key=trusting.api_key) as client:
        yield client


@pytest.fixture
def sandbox(client: Atoll, runtime: str) -> Iterator[Sandbox]:
    network = {"allow": ALLOWED}
    with client.sandboxes.create(
        "host", runtime=runtime, network=network, secrets=SECRETS
    ) as sandbox:
        yield sandbox


def test_host_of_the_secret_gets_it(sandbox: Sandbox, internet: Internet) -> None:
    answer = ask(sandbox, "https://a.test/", BEARER)

    assert (answer.status, answer.body) == (200, f"a.test at {SHARED}:443")
    assert internet.heard[0]["Authorization"] == f"Bearer {VALUE}"


def test_host_below_a_wildcard_gets_it(sandbox: Sandbox, internet: Internet) -> None:
    assert ask(sandbox, "https://x.w.test/", BEARER).status == 200
    assert internet.heard[0]["Authorization"] == f"Bearer {VALUE}"


def test_basic_credentials_get_it(sandbox: Sandbox, internet: Internet) -> None:
    done = sandbox.exec('curl -sS -u "user:$API_KEY" https://a.test/')

    assert done.stdout == f"a.test at {SHARED}:443", done.stderr
    expected = base64.b64encode(f"user:{VALUE}".encode()).decode()
    assert internet.heard[0]["Authorization"] == f"Basic {expected}"


@pytest.mark.parametrize(
    "command",
    [
        "curl -sSf https://a.test/",
        "node -e 'fetch(\"https://a.test/\").then(async a => console.log(await a.text()))'",
        "git ls-remote https://a.test/x 2>&1 | grep -v certificate",
    ],
)
def test_programs_trust_it_without_being_told(
    sandbox: Sandbox, internet: Internet, command: str
) -> None:
    if sandbox.exec(f"command -v {command.split()[0]}").exit_code != 0:
        pytest.skip(f"host lacks {command.split()[0]}")

    sandbox.exec(command)

    assert internet.heard, command


def test_secret_is_nowhere_inside(sandbox: Sandbox) -> None:
    assert ask(sandbox, "https://a.test/", BEARER).status == 200

    for value in (VALUE, OTHER_VALUE):
        found = sandbox.exec(["python3", "-c", SEARCH, value[::-1]])
        assert found.exit_code == 0, found.stderr
        looked_at, places = json.loads(found.stdout)
        assert (places, looked_at > 10) == ([], True)
    assert sandbox.exec("echo $API_KEY").stdout.startswith("atoll-secret-")
    assert sandbox.processes.start("echo $STRICT").wait().stdout.startswith("atoll-secret-")


def test_secret_is_nowhere_outside(
    sandbox: Sandbox, trusting: ServerProcess, client: Atoll
) -> None:
    assert ask(sandbox, "https://a.test/", BEARER).status == 200
    assert ask(sandbox, "https://other.test/", BEARER).status == 403

    files = [*trusting.state_dir.rglob("*"), *trusting.run_dir.rglob("*"), trusting.log]
    written = {str(path): _read(path) for path in files}
    for pid in (trusting.pid, _proxy_pid(trusting)):
        for name in ("cmdline", "environ"):
            written[f"{pid} {name}"] = Path(f"/proc/{pid}/{name}").read_bytes()
    written["info"] = repr(client.sandboxes.get(sandbox.id).info).encode()
    written["list"] = repr([it.info for it in client.sandboxes.list(limit=5)]).encode()
    written["report"] = repr(sandbox.network.report()).encode()

    for value in (VALUE, OTHER_VALUE):
        assert not [place for place, text in written.items() if value.encode() in text]
    assert sandbox.info.secrets["STRICT"] == SecretInfo(["other.test"], "X-Token")
    assert VALUE not in repr(SECRETS)


def test_plain_http_is_refused_and_nothing_sent(sandbox: Sandbox, internet: Internet) -> None:
    for url, headers, body in (
        ("http://a.test/", BEARER, ""),
        ("http://neighbour.test/", {"X-Any": "$STRICT"}, ""),
        ("http://neighbour.test/?key=$API_KEY", {}, ""),
    ):
        answer = ask(sandbox, url, headers, body)
        assert answer.status == 403, answer.body
        assert "stays here" in answer.body or "placeholder of" in answer.body
    assert internet.heard == []
    assert sandbox.network.report().denied == {"secret_misplaced": 3}


def test_body_in_the_clear_is_cut_before_its_placeholder(
    sandbox: Sandbox, internet: Internet
) -> None:
    placeholder = sandbox.exec("printf %s $API_KEY").stdout
    said = f"POST / HTTP/1.1\\r\\nHost: neighbour.test\\r\\nContent-Length: 500\\r\\n\\r\\n{placeholder}"
    refused = sandbox.exec(f"printf '{said}' | curl -sS --http0.9 telnet://neighbour.test:80")

    assert refused.stdout.startswith("HTTP/1.1 403 ")
    assert ask(sandbox, "http://neighbour.test/", {}, "key=$API_KEY").status in (0, 403)
    assert sandbox.network.report().denied == {"secret_misplaced": 2}


def test_other_host_over_tls_gets_a_placeholder_at_most(
    sandbox: Sandbox, internet: Internet
) -> None:
    """Its TLS is not looked into, and does not end at the proxy."""
    done = sandbox.exec('curl -sSk -H "Authorization: Bearer $API_KEY" https://neighbour.test/')

    assert done.exit_code == 0, done.stderr
    assert internet.heard[0]["Authorization"].startswith("Bearer atoll-secret-")


def test_secret_of_another_host_is_refused(sandbox: Sandbox, internet: Internet) -> None:
    assert ask(sandbox, "https://other.test/", BEARER).status == 403
    assert internet.heard == []

    assert ask(sandbox, "https://other.test/", {}, "it is $API_KEY").status == 403
    assert b"atoll-secret-" not in b"".join(internet.bodies)


def test_secret_stands_in_its_own_header_alone(sandbox: Sandbox, internet: Internet) -> None:
    assert ask(sandbox, "https://other.test/", {"Authorization": "$STRICT"}).status == 403
    assert ask(sandbox, "https://other.test/?t=$STRICT").status == 403
    assert internet.heard == []

    assert ask(sandbox, "https://other.test/", {"X-Token": "$STRICT"}).status == 200
    assert internet.heard[0]["X-Token"] == OTHER_VALUE


@pytest.mark.parametrize("path", ["/mirror", "/mirror/chunked"])
def test_mirrored_secret_is_taken_out(sandbox: Sandbox, path: str) -> None:
    answer = ask(sandbox, f"https://a.test{path}", BEARER)

    assert answer.status == 200, answer.body
    assert VALUE not in json.dumps([answer.headers, answer.body])
    placeholder = sandbox.exec("echo $API_KEY").stdout.strip()
    assert answer.headers["reason"] == f"Bearer {placeholder}"
    assert answer.headers["X-Mirrored"] == f"Bearer {placeholder}"
    assert f"Bearer {placeholder}" in answer.body


def test_much_goes_both_ways(sandbox: Sandbox) -> None:
    size = 20_000_000
    script = (
        f"head -c {size} /dev/zero | curl -sS -H 'Authorization: Bearer '$API_KEY --data-binary @-"
        f" -H 'Transfer-Encoding: chunked' https://a.test/ | wc -c;"
        f" curl -sS https://a.test/many/{size} | wc -c"
    )
    up, down = sandbox.exec(script).stdout.split()

    assert (int(up), int(down)) == (size + len(f"a.test at {SHARED}:443"), size)


def test_host_that_cannot_prove_itself_gets_nothing(sandbox: Sandbox, internet: Internet) -> None:
    answer = ask(sandbox, "https://impostor.test/", BEARER)

    assert answer.status == 502
    assert "certificate is not good" in answer.body
    assert internet.heard == []


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: neighbour.test\r\n\r\n", 403),
        ("GET / HTTP/1.1\r\nHost: a.test:444\r\n\r\n", 403),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nHost: neighbour.test\r\n\r\n", 400),
        ("GET http://neighbour.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nX: 1\r\n folded\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nX: 1\nY: 2\r\n\r\n", 400),
        (f"{POST}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (f"{POST}Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        ("hello\r\n\r\n", 400),
    ],
)
def test_doubtful_request_is_refused(
    sandbox: Sandbox, internet: Internet, said: str, status: int
) -> None:
    done = sandbox.exec(["python3", "-c", SPEAK, "a.test", said])

    assert done.stdout.startswith(f"HTTP/1.1 {status} "), done.stderr
    assert internet.heard == []


def test_policy_that_allows_everything_hides_as_well(
    client: Atoll, runtime: str, internet: Internet
) -> None:
    with client.sandboxes.create(
        "host", runtime=runtime, network="allow", secrets=SECRETS
    ) as sandbox:
        assert ask(sandbox, "http://neighbour.test/", BEARER).status == 403
        assert ask(sandbox, "https://a.test/", BEARER).status == 200
        assert [it.get("Authorization") for it in internet.heard] == [f"Bearer {VALUE}"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"network": "none"}, "give `network` a policy"),
        ({"env": {"API_KEY": "x"}}, "leave one out"),
        ({"secrets": {"A=B": Secret(VALUE, hosts=["a.test"])}}, "environment variable"),
        ({"secrets": {"A": Secret(VALUE + "\r\nX: y", hosts=["a.test"])}}, "line break"),
        ({"secrets": {"A": Secret(VALUE, hosts=[])}}, "1 to 32"),
        ({"secrets": {"A": Secret(VALUE, hosts=["10.0.0.1"])}}, "hosts are names"),
        ({"secrets": {"A": Secret(VALUE, hosts=["a.test"], header="Host")}}, "cannot hold"),
        ({"secrets": {"A": {"value": VALUE, "hosts": ["a.test"], "more": 1}}}, "unknown field"),
        ({"secrets": {"A": {"value": 1, "hosts": ["a.test"]}}}, "expected str"),
    ],
)
def test_secret_that_cannot_be_makes_no_sandbox(
    client: Atoll, changed: dict[str, object], message: str
) -> None:
    wanted: dict[str, object] = {"network": {"allow": ["a.test"]}, "secrets": SECRETS, **changed}
    with pytest.raises(InvalidConfig, match=message) as raised:
        client.sandboxes.create("host", **wanted)  # type: ignore[arg-type]  # wrong on purpose
    assert VALUE not in str(raised.value)


def test_secrets_outlive_the_proxy(
    sandbox: Sandbox, trusting: ServerProcess, internet: Internet
) -> None:
    _kill(_proxy_pid(trusting))

    sandbox.network.update({"allow": [*ALLOWED, "evil.test"]})

    assert ask(sandbox, "https://a.test/", BEARER).status == 200
    assert internet.heard[0]["Authorization"] == f"Bearer {VALUE}"
    assert ask(sandbox, "http://neighbour.test/", BEARER).status == 403


@pytest.mark.isolated
def test_secrets_outlive_server_and_proxy(
    trusting: ServerProcess, internet: Internet, runtime: str
) -> None:
    with Atoll(api_url=f"unix://{trusting.socket}", api_key=trusting.api_key) as client:
        sandbox = client.sandboxes.create(
            "host", runtime=runtime, network={"allow": ALLOWED}, secrets=SECRETS
        )
        trusting.kill()
        _kill(_proxy_pid(trusting))
        internet.run_within(trusting.start)
        internet.heard.clear()

    with Atoll(api_url=f"unix://{trusting.socket}", api_key=trusting.api_key) as client:
        found = client.sandboxes.get(sandbox.id)
        assert ask(found, "https://a.test/", BEARER).status == 200
        assert internet.heard[0]["Authorization"] == f"Bearer {VALUE}"
        assert ask(found, "http://neighbour.test/", BEARER).status == 403
        found.terminate()


def _proxy_pid(server: ServerProcess) -> int:
    return int(next(server.run_dir.glob("*/network/proxy.pid")).read_text())


def _read(path: Path) -> bytes:
    """What is in it. Disks of gigabytes are looked at from inside, and namespaces hold nothing."""
    is_file = path.is_file() and path.suffix != ".ext4" and path.parent.name != "namespaces"
    return path.read_bytes() if is_file else b""


def _kill(pid: int) -> None:
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [], 10)
    finally:
        os.close(process)
