#!/usr/bin/python
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tproxy_route
short_description: Manage the policy route for spliced packets
version_added: 0.1.0
description:
  - The splicer gives a packet to a socket, but the kernel must also route it to this host. This module adds the policy
    route for that.
  - Adds C(ip rule iif IF fwmark MARK lookup TABLE proto kernel) for each interface, for IPv4 and IPv6. Adds
    C(local default dev lo) to the table.
  - The rules have protocol kernel, so systemd-networkd does not remove them.
  - Never changes the rule for table local.
  - If the splicer is already attached to an interface, the module writes the mark to its policy.
  - Warns if reverse-path settings of an interface prevent the delivery of spliced packets.
author:
  - netedge.tproxy contributors (@netedge)
extends_documentation_fragment:
  - netedge.tproxy.splicer
  - netedge.tproxy.splicer.changes
  - netedge.tproxy.splicer.part
options:
  interfaces:
    description: Names of the interfaces.
    type: list
    elements: str
    required: true
    aliases: [interface]
  mark:
    description: Mark of spliced packets, as VALUE/MASK. One free bit is enough.
    type: str
    default: "0x10000000/0x10000000"
  table:
    description: Number of the routing table that delivers spliced packets. Use a table without other routes.
    type: int
    default: 1080
  priority:
    description: Priority of the rules, above that of table local (0) and below that of table main (32766).
    type: int
    default: 1080
  state:
    description:
      - V(present) adds the policy route, V(absent) removes it. With its last rule, the route in the table is removed as
        well.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Deliver spliced packets of the LAN interfaces
  netedge.tproxy.tproxy_route:
    interfaces: [lan0, lan1]

- name: Use a mark that no other program uses
  netedge.tproxy.tproxy_route:
    interfaces: [lan0]
    mark: 0x1/0x1
    table: 100
    priority: 100
"""

RETURN = r"""
routes:
  description: The policy rules and routes after the run, predicted in check mode, as C(ip) commands.
  returned: success
  type: list
  elements: str
  sample:
    - ip -4 route local default dev lo table 1080
    - ip -4 rule priority 1080 iif lan0 fwmark 0x10000000/0x10000000 lookup 1080 proto kernel
mark:
  description: The mark, with its mask.
  returned: success
  type: str
  sample: "0x10000000/0x10000000"
table:
  description: The routing table.
  returned: success
  type: int
  sample: 1080
"""

from ..module_utils._tproxy.ansible_module.argspec import tproxy_route
from ..module_utils._tproxy.ansible_module.runner import run
from ..module_utils._tproxy.operations.route import MANAGE_ROUTE


def main() -> None:
    """Run the module."""
    run(tproxy_route(), MANAGE_ROUTE)


if __name__ == "__main__":
    main()
