# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service of the router that answers every datagram: `service.py PORT`."""

from __future__ import annotations

import socket
import sys

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as answering:
    answering.bind(("0.0.0.0", int(sys.argv[1])))
    while True:
        data, peer = answering.recvfrom(1500)
        answering.sendto(data, peer)
