# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connect to HOST PORT inside the network namespace NAME and hand the connected socket to ssh on standard output.

For ssh's ProxyCommand with ProxyUseFdpass (ssh_config(5)): a socket keeps the namespace it was made in, so ssh itself
stays in the machine's own namespace and no relay is left running.
"""

from __future__ import annotations

import array
import ctypes
import os
import socket
import sys

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


def main() -> None:
    name, host, port = sys.argv[1:]
    try:
        enter_network_namespace(name)
        connection = socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS)
    except OSError as error:
        sys.exit(f"nsdial: {host} port {port} in {name}: {error}")
    connection.setblocking(True)
    hand_over(connection)


main()
