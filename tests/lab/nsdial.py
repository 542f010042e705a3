# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connect to HOST PORT inside the network namespace NAME and hand the connected socket to ssh on standard output.

For ssh's ProxyCommand with ProxyUseFdpass (ssh_config(5)): a socket keeps the namespace it was made in, so ssh itself
stays in the machine's own namespace and no relay is left running.

With a further argument, a round trip time in milliseconds, the process stays and relays between ssh and the socket. It
delays each direction by half of this time, and the connection by all of it. It needs no kernel with netem. ssh then
needs ProxyUseFdpass=no.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable

CLONE_NEWNET = 0x40000000  # linux/sched.h
CONNECT_SECONDS = 5


def enter_network_namespace(name: str) -> None:
    """Move this process into /run/netns/NAME. os.setns exists from Python 3.12 on only."""
    namespace = os.open(f"/run/netns/{name}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"setns into {name}")


def hand_over(connection: socket.socket) -> None:
    """Send the connection's file descriptor through the socket pair that ssh gave us as standard output."""
    descriptor = array.array("i", [connection.fileno()])
    with socket.socket(fileno=os.dup(1)) as ssh:
        ssh.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor)])


def relay(connection: socket.socket, seconds: float) -> None:
    """Copy between ssh and the connection, each chunk after a delay, until both directions have ended."""

    def end_of_requests() -> None:
        connection.shutdown(socket.SHUT_WR)

    ways = [(0, connection.fileno(), end_of_requests), (connection.fileno(), 1, lambda: os.close(1))]
    threads = []
    for source, sink, end in ways:
        chunks: queue.Queue = queue.Queue()
        threads.append(threading.Thread(target=take, args=(source, chunks, seconds)))
        threads.append(threading.Thread(target=give, args=(sink, chunks, end)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def take(source: int, chunks: queue.Queue, seconds: float) -> None:
    """Read chunks, and queue each with its time of delivery. The last one is empty."""
    data = b"-"
    while data:
        try:
            data = os.read(source, 65536)
        except OSError:
            data = b""
        chunks.put((time.monotonic() + seconds, data))


def give(sink: int, chunks: queue.Queue, end: Callable[[], None]) -> None:
    """Write each chunk at its time, and end the sink after the last one."""
    with contextlib.suppress(OSError):  # the other side has ended
        while True:
            due, data = chunks.get()
            time.sleep(max(0, due - time.monotonic()))
            if not data:
                end()
                return
            while data:
                data = data[os.write(sink, data) :]


def main() -> None:
    name, host, port, *milliseconds = sys.argv[1:]
    try:
        enter_network_namespace(name)
        connection = socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS)
    except OSError as error:
        sys.exit(f"nsdial: {host} port {port} in {name}: {error}")
    connection.setblocking(True)
    if milliseconds:
        seconds = int(milliseconds[0]) / 1000
        time.sleep(seconds)  # the handshake of TCP
        relay(connection, seconds / 2)
    else:
        hand_over(connection)


main()
