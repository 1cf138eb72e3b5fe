# SPDX-License-Identifier: Apache-2.0
"""`python -m atoll_server`: the server by itself, without the `atoll` command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from atoll_server import __version__
from atoll_server.config import ConfigError, load_settings
from atoll_server.serve import EXIT_CONFIG, run


def main(argv: Sequence[str] | None = None) -> int:
    """Serve as the arguments say; returns the exit status."""
    arguments = vars(_parser().parse_args(argv))
    try:
        settings = load_settings(config=arguments.pop("config"), **arguments)
    except ConfigError as error:
        sys.stderr.write(f"atoll: {error}\n")
        return EXIT_CONFIG
    return run(settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="atoll-server", description="Sandboxes on this host, over HTTP."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="TCP port (7420); 0 takes a free one")
    parser.add_argument("--socket", metavar="PATH", help="unix socket to listen on")
    parser.add_argument(
        "--api-key", dest="api_keys", action="append", metavar="KEY", help="may be repeated"
    )
    parser.add_argument(
        "--state-dir", metavar="DIR", help="what must survive a reboot (/var/lib/atoll)"
    )
    parser.add_argument("--run-dir", metavar="DIR", help="what need not (/run/atoll)")
    parser.add_argument(
        "--image",
        dest="images",
        action="append",
        metavar="NAME=SOURCE",
        help="another image, or a directory that holds one; may be repeated",
    )
    parser.add_argument(
        "--default-image", metavar="IMAGE", help="for sandboxes created without one"
    )
    parser.add_argument(
        "--runtime", choices=["auto", "gvisor", "container"], help="what isolates (auto)"
    )
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--log-format", choices=["text", "json"])
    parser.add_argument(
        "--private",
        action="store_true",
        default=None,
        help="serve on the socket only; print its url and key as JSON; end when stdin closes",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
