#!/usr/bin/python
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tproxy_cli
short_description: Install C(tproxy-splicer) on the router
version_added: 0.1.0
description:
  - One executable file, made of the very code that the modules run. It shows what is in force, explains verdicts,
    restores the saved state at boot, watches over it, and is the diverter of an OpenZiti router.
  - It needs the system's Python with pyroute2, and neither Ansible nor a compiler.
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
  state:
    description: Whether it shall be there.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Have the command line on the router
  netedge.tproxy.tproxy_cli:
"""

RETURN = r"""
file:
  description: The file.
  returned: success
  type: str
  sample: /usr/local/sbin/tproxy-splicer
fingerprint:
  description: A digest of what it is made of; null when it is absent.
  returned: success
  type: str
  sample: 5f0c1e9a4f7c7a1c0d5f7b0f7d2e5f0c1e9a4f7c7a1c0d5f7b0f7d2e5f0c1e9a
"""

from ..module_utils._argspec import tproxy_cli
from ..module_utils._install_cli import install
from ..module_utils._runner import run


def main() -> None:
    """Run the module."""
    run(tproxy_cli(), install)


if __name__ == "__main__":
    main()
