#!/usr/bin/python
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tproxy_route
short_description: Deliver spliced packets to this host
version_added: 0.1.0
description:
  - A packet that the splicer gave to a socket must still be routed to this host. This module makes the policy route.
  - For each interface, and for IPv4 and IPv6, C(ip rule iif IF fwmark MARK lookup TABLE proto kernel), and in the table
    C(local default dev lo).
  - The rules bear protocol kernel, so that systemd-networkd leaves them alone.
  - The rule for table local is never touched.
  - Where the splicer is attached to an interface already, its policy is told the mark.
  - Warns when the reverse-path settings of an interface keep spliced packets from being delivered.
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
    description: The mark of spliced packets, as VALUE/MASK. One free bit is enough.
    type: str
    default: "0x10000000/0x10000000"
  table:
    description: Number of the routing table that delivers them. It should hold nothing else.
    type: int
    default: 1080
  priority:
    description: Priority of the rules, above that of table local (0) and below that of table main (32766).
    type: int
    default: 1080
  state:
    description:
      - Whether the interfaces shall have the policy route. With the last rule that leads to it the table's route goes.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Deliver what is spliced on the LAN interfaces
  netedge.tproxy.tproxy_route:
    interfaces: [lan0, lan1]

- name: With a mark that another program does not use
  netedge.tproxy.tproxy_route:
    interfaces: [lan0]
    mark: 0x1/0x1
    table: 100
    priority: 100
"""

RETURN = r"""
routes:
  description: The rules and routes of this kind after the run, or as they would be, as C(ip) would write them.
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

from ..module_utils._argspec import tproxy_route
from ..module_utils._lay_route import lay_route
from ..module_utils._runner import run_change


def main() -> None:
    """Run the module."""
    run_change(tproxy_route(), lay_route)


if __name__ == "__main__":
    main()
