#!/usr/bin/python
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tproxy_state
short_description: Save the running state for the next boot
version_added: 0.1.0
description:
  - Pins, filters and policy routes end with a reboot. This module saves them to one file. C(tproxy-splicer restore)
    restores it before the network is up, without Ansible and without a compiler.
  - The file has the program, the rules, each interface with its policy and addresses, and the policy routes. The module
    writes it whole or not at all. A digest detects damage.
  - While the file exists at its default path, every module of this collection saves it again after a change. If the
    disk refuses the write, the change stays in force, and the module warns. Run this module again to save.
  - Rules of owners that begin with C(ziti:) are not saved, because the OpenZiti router adds them when it starts. Other
    programs than the splicer are not saved either.
  - Losses of the kernel, such as an unplugged interface, do not change the saved state.
author:
  - netedge.tproxy contributors (@netedge)
extends_documentation_fragment:
  - netedge.tproxy.splicer
  - netedge.tproxy.splicer.changes
options:
  path:
    description:
      - Path of the file. A file at another path than the default one is a copy, and no module updates it.
    type: path
    default: /var/lib/tproxy_splicer/state.json
  failure:
    description:
      - Action of a boot that cannot restore the state, because the file is damaged or the kernel refuses the program.
      - V(fail_open) leaves the interfaces without a filter.
      - V(fail_closed) passes only ARP, IPv6 neighbour discovery, DHCP, SSH and the management entries of the policy, on
        the interfaces that had the program.
    type: str
    choices: [fail_open, fail_closed]
    default: fail_open
  state:
    description: V(present) saves the state. V(absent) removes the file and does not change the state in force.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Save the state, and close the interfaces if a boot cannot restore it
  netedge.tproxy.tproxy_state:
    failure: fail_closed

- name: Write a copy
  netedge.tproxy.tproxy_state:
    path: /root/before-the-upgrade.json

- name: Remove the saved state
  netedge.tproxy.tproxy_state:
    state: absent
"""

RETURN = r"""
file:
  description: Path of the file.
  returned: success
  type: str
  sample: /var/lib/tproxy_splicer/state.json
failure:
  description: Action of a boot that cannot restore the state; null if no state is saved.
  returned: success
  type: str
  sample: fail_closed
interfaces:
  description: The saved interfaces.
  returned: success
  type: list
  elements: str
  sample: [lan0, lan1]
rules:
  description: Number of saved rules.
  returned: success
  type: int
  sample: 12
"""

from ..module_utils._tproxy.ansible_module.argspec import tproxy_state
from ..module_utils._tproxy.ansible_module.runner import run
from ..module_utils._tproxy.operations.state import SAVE_STATE


def main() -> None:
    """Run the module."""
    run(tproxy_state(), SAVE_STATE)


if __name__ == "__main__":
    main()
