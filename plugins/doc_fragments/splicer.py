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
      - Folder in a bpffs under which maps and program are pinned, in a subfolder for the layout, C(v2).
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

    PART = r"""
options:
  confirm_token:
    description:
      - Token of a change that M(netedge.tproxy.tproxy_confirm) began. This run becomes part of it, and stays or goes
        with it. Without the token a run is refused while somebody's change waits for its confirmation.
    type: str
"""

    CONFIRM = r"""
options:
  confirm_timeout:
    description:
      - What this run changes must be confirmed within so many seconds, 5 to 3600, or all is again as it was before.
        V(0) changes for good.
      - The task itself confirms, over a new connection to the host. When it gets none, nobody can lock himself out, the
        change is rolled back by the host alone, and the task fails and says so.
      - Rules and policies go back inside the program, at the deadline. A guard process on the host brings back program,
        filter, addresses and routes. Neither needs the controller, a connection or the time of day.
      - While a change waits every other one is refused.
    type: int
    default: 0
  confirm_token:
    description:
      - Token of a change that M(netedge.tproxy.tproxy_confirm) began. This run becomes part of it, and stays or goes
        with it. Without the token a run is refused while somebody's change waits for its confirmation.
      - With O(confirm_timeout), and while no change waits, the token that the new change gets.
    type: str
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
