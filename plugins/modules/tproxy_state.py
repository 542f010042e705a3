#!/usr/bin/python
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tproxy_state
short_description: Keep what is in force for the next boot
version_added: 0.1.0
description:
  - Pins, filters and policy routes end with a reboot. This module saves all of it to one file, from which
    C(tproxy-splicer restore) puts it back before the network is up, without Ansible and without a compiler.
  - The file holds the program, the rules, each interface with its policy and addresses, and the policy routes. It is
    written whole or not at all, and bears a digest, so that a damaged one is told from a good one.
  - While the file at its default path exists, every module of this collection that changes something saves it anew.
    Where the disk refuses that, the change stands and the module warns; run this module again to save.
  - Rules of owners that begin with C(ziti:) are not saved; the Ziti router sets them again when it starts. Programs
    other than the splicer are not saved either.
  - What the kernel has lost without being told to by a module, such as an interface that was unplugged, stays saved.
author:
  - netedge.tproxy contributors (@netedge)
extends_documentation_fragment:
  - netedge.tproxy.splicer
  - netedge.tproxy.splicer.changes
options:
  path:
    description:
      - Where the state is saved. At another path than the default one it is a copy that nothing keeps up to date.
    type: path
    default: /var/lib/tproxy_splicer/state.json
  failure:
    description:
      - What a boot shall do when the state cannot be put back, because the file is damaged or the kernel refuses the
        program.
      - V(fail_open) leaves the interfaces without a filter.
      - V(fail_closed) lets only ARP, IPv6 neighbour discovery, DHCP, SSH and the management entries of the policy
        through on the interfaces that had the program.
    type: str
    choices: [fail_open, fail_closed]
    default: fail_open
  state:
    description: Whether a state shall be saved. V(absent) removes the file, and leaves alone what is in force.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Keep what is in force, and close the interfaces should that be impossible
  netedge.tproxy.tproxy_state:
    failure: fail_closed

- name: Write a copy
  netedge.tproxy.tproxy_state:
    path: /root/before-the-upgrade.json

- name: Start the next boot with nothing
  netedge.tproxy.tproxy_state:
    state: absent
"""

RETURN = r"""
file:
  description: The file.
  returned: success
  type: str
  sample: /var/lib/tproxy_splicer/state.json
failure:
  description: What a boot does when the state cannot be put back; null where none is saved.
  returned: success
  type: str
  sample: fail_closed
interfaces:
  description: The interfaces that are saved.
  returned: success
  type: list
  elements: str
  sample: [lan0, lan1]
rules:
  description: How many rules are saved.
  returned: success
  type: int
  sample: 12
"""

from ..module_utils._argspec import tproxy_state
from ..module_utils._runner import run
from ..module_utils._save_state import save_state


def main() -> None:
    """Run the module."""
    run(tproxy_state(), save_state)


if __name__ == "__main__":
    main()
