#!/usr/bin/python
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ifindex_ip
short_description: Record the addresses of interfaces for the splicer
version_added: 0.1.0
description:
  - The splicer knows the addresses of all interfaces except V(lo) by itself. It passes SSH and management entries to
    these own addresses, and no rule for a wider destination splices packets to them.
  - This module records addresses that count as well, for example an address of V(lo), or a virtual address that
    another router has at the moment. Without O(addresses) it records the present ones.
  - Records global and link-local addresses, secondary ones included, up to 128 for each interface.
  - Brings the own addresses up to date with the kernel in any case. The watcher of M(netedge.tproxy.tproxy_state) does
    so when an address changes.
  - Removes entries of interfaces that no longer exist, or that have another index now.
author:
  - netedge.tproxy contributors (@netedge)
extends_documentation_fragment:
  - netedge.tproxy.splicer
  - netedge.tproxy.splicer.changes
  - netedge.tproxy.splicer.confirm
options:
  interfaces:
    description: Names of the interfaces. The default is all interfaces with the splicer.
    type: list
    elements: str
    aliases: [interface]
  addresses:
    description:
      - Record these addresses instead of the addresses of the kernel. Needs exactly one interface.
    type: list
    elements: str
  purge:
    description: Remove the entries of all other interfaces.
    type: bool
    default: false
  state:
    description: V(present) records the addresses, V(absent) removes the entries of the interfaces.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: netedge.tproxy.tc_bpf_attach
"""

EXAMPLES = r"""
- name: Record the addresses of every interface with the splicer
  netedge.tproxy.ifindex_ip:

- name: Record two addresses of one interface, its own and a virtual one
  netedge.tproxy.ifindex_ip:
    interfaces: [lan0]
    addresses: [10.1.1.1, 10.1.1.254]

- name: Let the router be reached by SSH at an address of lo
  netedge.tproxy.ifindex_ip:
    interfaces: [lo]
    addresses: [192.0.2.1]

- name: Remove the entry of one interface
  netedge.tproxy.ifindex_ip:
    interfaces: [lan0]
    state: absent
"""

RETURN = r"""
interfaces:
  description: All entries after the run, predicted in check mode, by index.
  returned: success
  type: list
  elements: dict
  contains:
    interface:
      description: Name of the interface.
      type: str
    ifindex:
      description: Its index.
      type: int
    addresses:
      description: Its recorded addresses.
      type: list
      elements: str
  sample:
    - interface: lan0
      ifindex: 3
      addresses: [10.1.1.1, "fe80::1"]
confirm:
  description:
    - The change with confirmation. The task has confirmed it if the state is V(confirmed).
    - Null if nothing was changed, or if no packet meets the change because no program is attached.
    - Null if O(confirm_by_default) is set and the change cannot cut the operator off.
  returned: O(confirm_timeout) is not 0
  type: dict
  contains:
    state:
      description: V(confirmed), V(rolled_back), or V(pending) if no action plugin confirmed it.
      type: str
    token:
      description: Token of the change.
      type: str
    seconds:
      description: Time limit of the confirmation, in seconds.
      type: int
    seconds_left:
      description: Seconds left; 0 if the change is not pending.
      type: int
  sample:
    state: confirmed
    token: 6f1c0a4be2d95a37
    seconds: 60
    seconds_left: 0
"""

from ..module_utils._tproxy.ansible_module.argspec import ifindex_ip
from ..module_utils._tproxy.ansible_module.runner import run
from ..module_utils._tproxy.operations.addresses import RECORD_ADDRESSES


def main() -> None:
    """Run the module."""
    run(ifindex_ip(), RECORD_ADDRESSES)


if __name__ == "__main__":
    main()
