# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FRR on the router: zebra, which gives the kernel its routes, and the daemon of a protocol."""

from __future__ import annotations

import pathlib

from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, OWN
from ansible_collections.netedge.tproxy.tests.system.daemons.bird import OUR_AS, THEIR_AS
from ansible_collections.netedge.tproxy.tests.system.daemons.merged import merged

GROUPS = "frr:x:990:\nfrrvty:x:991:root\n"  # the package makes them
OSPF = f"""
interface {LAN}
 ip ospf area 0
 ip ospf hello-interval 1
 ip ospf dead-interval 4
router ospf
 ospf router-id {OWN}
"""
BGP = f"""
router bgp {OUR_AS}
 bgp router-id {OWN}
 no bgp ebgp-requires-policy
 neighbor {CLIENT} remote-as {THEIR_AS}
 neighbor {CLIENT} timers connect 1
"""


def _start(daemons, name: str, text: str) -> None:
    """Start zebra and the daemon of a protocol as root, with all their files in the folder of the test."""
    groups = pathlib.Path("/etc/group").read_text(encoding="utf-8")
    (group,) = daemons.files(group=groups + GROUPS)
    for daemon, config in (("zebra", ""), (name, text)):
        (path,) = daemons.files(**{f"{daemon}.conf": "log stdout\n" + config})
        words = [daemon, "-u", "root", "-g", "root", "-f", path, "-z", f"{daemons.folder}/zebra.sock", "-P", "0"]
        words += ["-i", f"{daemons.folder}/{daemon}.pid", "--vty_socket", str(daemons.folder)]
        daemons.start(daemon, *merged(words, {"/etc/group": group}))
        daemons.until((daemons.folder / "zebra.sock").exists, "the socket of zebra")


def ospf(daemons) -> None:
    """Speak OSPF on lan0."""
    _start(daemons, "ospfd", OSPF)


def bgp(daemons, *, passive: bool) -> None:
    """Speak BGP with the client. A passive end opens no connection."""
    _start(daemons, "bgpd", BGP + (f" neighbor {CLIENT} passive\n" if passive else ""))
