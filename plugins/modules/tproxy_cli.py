#!/usr/bin/python
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tproxy_cli
short_description: Install tproxy-splicer, the command line on the router
version_added: 0.1.0
description:
  - Installs one executable file. It shows and explains what is in force, keeps it and puts it back, writes metrics, and
    is the diverter of an OpenZiti router. See C(tproxy-splicer --help).
  - The file is assembled on the router out of the code that this module came with, so both are of one release. It needs
    C(/usr/bin/python3) and that Python's pyroute2, no Ansible. It starts faster when this module runs under the same
    Python.
  - What stands at O(path) and is not C(tproxy-splicer) is left alone; to install there the module refuses.
author:
  - netedge.tproxy contributors (@netedge)
extends_documentation_fragment:
  - netedge.tproxy.splicer
  - netedge.tproxy.splicer.changes
options:
  path:
    description: Where it is installed. The folder must exist.
    type: path
    default: /usr/local/sbin/tproxy-splicer
  links:
    description:
      - Whether C(map_update) and C(map_delete_elem), the programs of the first edge routers, are installed beside it,
        as other names of the same file. With V(false) such names of ours are removed.
    type: bool
    default: true
  state:
    description: Whether it shall be there. V(absent) removes it with its other names.
    type: str
    choices: [present, absent]
    default: present
  pin_dir:
    description:
      - The folder of the maps that it works with, unless C(--pin-dir) or the environment variable
        C(TPROXY_SPLICER_PIN_DIR) says otherwise.
    type: path
    default: /sys/fs/bpf/tproxy_splicer
"""

EXAMPLES = r"""
- name: Install the command line
  netedge.tproxy.tproxy_cli:

- name: Install it where the router's service looks for its diverter
  netedge.tproxy.tproxy_cli:
    path: /opt/openziti/bin/tproxy-splicer
    links: false

- name: Remove it
  netedge.tproxy.tproxy_cli:
    state: absent
"""

RETURN = r"""
file:
  description: Where it is installed.
  returned: success
  type: str
  sample: /usr/local/sbin/tproxy-splicer
fingerprint:
  description: SHA-256 of what it is made of; empty with O(state=absent).
  returned: success
  type: str
  sample: 5c1d54f3a7b0de4c2dbd6f8a1d8b0b7e4f6f0e0d2f6d9c1b7a3e5f4c2b1a0f9e
bytes:
  description: Its size; 0 with O(state=absent).
  returned: success
  type: int
  sample: 921344
links:
  description: Its other names.
  returned: success
  type: list
  elements: str
  sample: [/usr/local/sbin/map_update, /usr/local/sbin/map_delete_elem]
"""

from ..module_utils._argspec import tproxy_cli
from ..module_utils._install_cli import install
from ..module_utils._runner import run


def main() -> None:
    """Run the module."""
    run(tproxy_cli(), install)


if __name__ == "__main__":
    main()
