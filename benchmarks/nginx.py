# SPDX-License-Identifier: Apache-2.0
"""nginx before a server of the host, where nginx is installed: what a proxy written in C makes of the same."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.preview import Visitor
from tests.support.waiting import wait_until

_STOP_SECONDS = 10.0
# One process, as the server is one. It keeps its connections to the program; nothing goes by way of the disk.
_CONFIGURATION = """
daemon off;
worker_processes 1;
error_log {directory}/error.log;
pid {directory}/pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    proxy_max_temp_file_size 0;
    upstream program {{ server 127.0.0.1:{program}; keepalive 32; }}
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000;
        location / {{
            proxy_pass http://program;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
        }}
    }}
}}
"""


@contextmanager
def nginx_before(program: int, port: int) -> Iterator[Visitor | None]:
    """A visitor of that port of the host by way of nginx at `port`; None without nginx."""
    nginx = shutil.which("nginx")
    if nginx is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="atoll-nginx-") as directory:
        # Its worker is another user, who must get in.
        Path(directory).chmod(0o755)
        configuration = Path(directory, "conf")
        text = _CONFIGURATION.format(directory=directory, program=program, port=port)
        configuration.write_text(text)
        process = subprocess.Popen(
            [nginx, "-p", directory, "-e", "stderr", "-c", str(configuration)],
            stdin=subprocess.DEVNULL,
        )
        try:
            visitor = Visitor(port, "127.0.0.1")
            wait_until(lambda: process.poll() is not None or _answers(visitor), what="nginx")
            yield visitor
        finally:
            process.terminate()
            process.wait(_STOP_SECONDS)


def _answers(visitor: Visitor) -> bool:
    try:
        return visitor.ask("/plain").status == 200
    except OSError:
        return False
