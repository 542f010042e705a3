# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that every module of the collection shares."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes and options common to all modules, and what those that change something add."""

    DOCUMENTATION = r"""
requirements:
  - Linux 5.10 or newer, CAP_NET_ADMIN and CAP_SYS_ADMIN (root)
  - Python 3.9 or newer
  - pyroute2 (Debian C(python3-pyroute2))
options:
  pin_dir:
    description:
      - Folder in a bpffs under which maps and program are pinned, in a subfolder for the layout, C(v1).
      - A bpffs is mounted at C(/sys/fs/bpf) when there is none.
    type: path
    default: /sys/fs/bpf/tproxy_splicer
attributes:
  platform:
    description: Target operating systems.
    platforms: linux
    support: full
  action_group:
    description: Use C(group/netedge.tproxy.all) in C(module_defaults) to set defaults for this module.
    membership:
      - netedge.tproxy.all
    support: full
"""

    CHANGES = r"""
attributes:
  check_mode:
    description: Predicts exactly what a real run would report, and changes nothing.
    support: full
  diff_mode:
    description: Shows the whole state before and after, as names and addresses.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
"""

    READS = r"""
attributes:
  check_mode:
    description: Only reads, so it does the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: N/A
  idempotent:
    description: Only reads.
    support: N/A
"""
