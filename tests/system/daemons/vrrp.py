# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""keepalived with one virtual address, on the router or on the other end."""

from __future__ import annotations

import json

SHARED = "10.1.0.100"
KEEPALIVED = """
global_defs {{
  router_id {name}
  vrrp_version 3
  vrrp_garp_master_delay 0
}}
vrrp_instance shared {{
  state BACKUP
  interface {interface}
  virtual_router_id 7
  priority {priority}
  advert_int 0.2
  virtual_ipaddress {{
    {shared}/24
  }}
}}
"""


def keepalived(daemons, name: str, interface: str, priority: int, inside=None) -> None:
    """Start keepalived. The end with the highest priority becomes the master."""
    (path,) = daemons.files(
        **{f"{name}.conf": KEEPALIVED.format(name=name, interface=interface, priority=priority, shared=SHARED)}
    )
    pids = [f"{option}={daemons.folder}/{name}{option}.pid" for option in ("--pid", "--vrrp_pid")]
    daemons.start(
        name, "keepalived", "--dont-fork", "--log-console", "--vrrp", f"--use-file={path}", *pids, inside=inside
    )


def has_shared(router, interface: str) -> bool:
    """Return whether an interface of the namespace of the caller has the virtual address."""
    entries = json.loads(router.netns.run(f"ip -j address show dev {interface}"))
    return any(address["local"] == SHARED for entry in entries for address in entry["addr_info"])
