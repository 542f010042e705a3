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
  - Installs one executable file. The file shows and explains the state in force, saves and restores it, prints metrics,
    and is the diverter of an OpenZiti router. See C(tproxy-splicer --help).
  - The module builds the file on the router from its own code, so both have the same release. The file needs
    C(/usr/bin/python3) and the pyroute2 of that Python, but no Ansible. It starts faster if this module runs under the
    same Python.
  - The module refuses to replace or remove a file at O(path) that is not C(tproxy-splicer).
author:
  - netedge.tproxy contributors (@netedge)
extends_documentation_fragment:
  - netedge.tproxy.splicer
  - netedge.tproxy.splicer.changes
options:
  path:
    description: Path of the file. The module creates missing folders with mode V(0755).
    type: path
    default: /usr/local/sbin/tproxy-splicer
  links:
    description:
      - Install C(map_update) and C(map_delete_elem), the commands of the first edge routers, as links to the same file.
        V(false) removes these links.
    type: bool
    default: true
  state:
    description: V(present) installs the file, V(absent) removes it and its links.
    type: str
    choices: [present, absent]
    default: present
  pin_dir:
    description:
      - Default pin folder of the command. C(--pin-dir) and the environment variable C(TPROXY_SPLICER_PIN_DIR) override
        it.
    type: path
    default: /sys/fs/bpf/tproxy_splicer
"""

EXAMPLES = r"""
- name: Install the command line
  netedge.tproxy.tproxy_cli:

- name: Install it in the folder of an OpenZiti router
  netedge.tproxy.tproxy_cli:
    path: /opt/openziti/bin/tproxy-splicer
    links: false

- name: Remove the command line
  netedge.tproxy.tproxy_cli:
    state: absent
"""

RETURN = r"""
file:
  description: Path of the file.
  returned: success
  type: str
  sample: /usr/local/sbin/tproxy-splicer
fingerprint:
  description: SHA-256 of the content; empty with O(state=absent).
  returned: success
  type: str
  sample: 5c1d54f3a7b0de4c2dbd6f8a1d8b0b7e4f6f0e0d2f6d9c1b7a3e5f4c2b1a0f9e
bytes:
  description: Size of the file; 0 with O(state=absent).
  returned: success
  type: int
  sample: 921344
links:
  description: Paths of the links.
  returned: success
  type: list
  elements: str
  sample: [/usr/local/sbin/map_update, /usr/local/sbin/map_delete_elem]
"""

from ..module_utils._tproxy.ansible_module.argspec import tproxy_cli
from ..module_utils._tproxy.ansible_module.runner import run
from ..module_utils._tproxy.cli.install import INSTALL


def main() -> None:
    """Run the module."""
    run(tproxy_cli(), INSTALL)


if __name__ == "__main__":
    main()
