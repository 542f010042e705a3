# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A listener on all addresses of the router that no client may reach: `leak.py PORT`.

It prints `tcp ADDRESS` or `udp ADDRESS` of each client that did.
"""

from __future__ import annotations

import selectors
import socket
import sys


def main() -> None:
    """Listen until stopped."""
    port = int(sys.argv[1])
    tcp = socket.create_server(("0.0.0.0", port))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("0.0.0.0", port))
    with selectors.DefaultSelector() as selector:
        selector.register(tcp, selectors.EVENT_READ)
        selector.register(udp, selectors.EVENT_READ)
        print("ready", flush=True)
        while True:
            for key, _events in selector.select():
                if key.fileobj is tcp:
                    connection, peer = tcp.accept()
                    connection.close()
                    print("tcp", peer[0], flush=True)
                else:
                    print("udp", udp.recvfrom(65535)[1][0], flush=True)


main()
