# SPDX-License-Identifier: Apache-2.0
"""Takes the agent's place, and sends whoever asks something a socket whose last owner waits long to close it.

Runs inside, as root. Argument: for how many seconds. Says when it is there, and then what each asking came to.
"""

import os
import socket
import struct
import sys

SOCKET = "/run/atoll/control/agent.sock"
FIRST_WORDS = b"hello"


def lingering(seconds: int) -> socket.socket:
    """With much to say to one who does not listen."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        talking = socket.create_connection(listener.getsockname())
        deaf.append(listener.accept()[0])
    talking.setblocking(False)
    try:
        while talking.send(b"x" * 65536):
            pass
    except BlockingIOError:
        talking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, seconds))
    return talking


def answer(asked: socket.socket, seconds: int) -> str:
    _, given, _, _ = socket.recv_fds(asked, 65536, 4)
    heard = socket.socket(fileno=given[0]) if given else asked
    sent = lingering(seconds)
    try:
        socket.send_fds(heard, [FIRST_WORDS], [sent.fileno()])
        said = "sent"
    except OSError as error:
        said = f"refused: {error.strerror}"
        sent.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
    sent.close()
    return ("on a socket that came along, " if given else "") + said


deaf: list[socket.socket] = []
os.unlink(SOCKET)
place = socket.socket(socket.AF_UNIX)
place.bind(SOCKET)
place.listen()
print("there", flush=True)
while True:
    peer, _ = place.accept()
    print(answer(peer, int(sys.argv[1])), flush=True)
    peer.close()
