# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that every module of the collection shares."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes and options of all modules, and the additions for modules that change something."""

    DOCUMENTATION = r"""
requirements:
  - Linux 5.10 or newer, CAP_NET_ADMIN and CAP_SYS_ADMIN (root)
  - Python 3.9 or newer
  - pyroute2 0.5.14 or later (Debian C(python3-pyroute2))
options:
  pin_dir:
    description:
      - Folder in a bpffs for the pins of maps and program. The pins are in a subfolder for the layout, C(v3).
      - If no bpffs is mounted, the module mounts one at C(/sys/fs/bpf).
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
    description: Predicts exactly the result of a real run, and changes nothing.
    support: full
  diff_mode:
    description: Shows the whole state before and after the run, with names and addresses.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
"""

    LAYERS = r"""
options:
  layers:
    description:
      - A dictionary of owner to list of rules, each rule with the options of O(rules). A run applies all layers in
        one commit, together with O(rules).
      - With O(purge), each layer also removes the rules of its owner that it does not list. An empty list then removes
        all of them.
      - So group and host variables can each have rules, which add to each other.
    type: dict
"""

    PART = r"""
options:
  confirm_token:
    description:
      - Token of a change that M(netedge.tproxy.tproxy_confirm) began. This run becomes part of that change, and is
        confirmed or rolled back with it. Without the token a run waits for the end of a pending change.
    type: str
"""

    CONFIRM = r"""
options:
  confirm_timeout:
    description:
      - Time limit for the confirmation of this change in seconds, 5 to 3600. Without a confirmation the host restores
        the previous state. V(0) needs no confirmation.
      - Over a remote connection the action plugin sets a limit if the task has none. It is 300 seconds for
        M(netedge.tproxy.tproxy_router). It is 60 seconds for
        M(netedge.tproxy.tc_bpf_attach) if it attaches or changes a policy. It is 60 seconds for
        M(netedge.tproxy.tproxy_rule) if the change can drop packets to an address of the host, or give them to a proxy.
        It is 60 seconds for M(netedge.tproxy.ifindex_ip) if an own address of the host is none from then on.
      - There is no default limit for a local connection (C(ansible-pull)), with C(async), or with O(confirm_token). A
        tool that runs the module without its action plugin must confirm by M(netedge.tproxy.tproxy_confirm). The
        module then warns, with the token of the change.
      - The task itself confirms over a new connection to the host. If it gets none, the host rolls the change back by
        itself, so the change cannot lock the controller out. The task then fails with a message about the roll-back.
      - At the deadline the program itself uses the previous rules and policies. A watchdog process on the host restores
        program, filter, addresses and routes. Neither needs the controller, a connection or the system time.
      - While a change is pending, another task waits for its end.
    type: int
    default: 0
  confirm_by_default:
    description:
      - Begin a pending change only if the change can cut the operator off. The action plugin sets it together with its
        default for O(confirm_timeout).
    type: bool
    default: false
  confirm_token:
    description:
      - Token of a change that M(netedge.tproxy.tproxy_confirm) began. This run becomes part of that change, and is
        confirmed or rolled back with it. Without the token a run waits for the end of a pending change.
      - With O(confirm_timeout), and without a pending change, token of the new change.
    type: str
"""

    READS = r"""
attributes:
  check_mode:
    description: Only reads, so check mode makes no difference.
    support: full
  diff_mode:
    description: Changes nothing, so it has no difference to show.
    support: N/A
  idempotent:
    description: Only reads.
    support: N/A
"""

    # files and units of a router beside its kernel
    SERVICES = r"""
options:
  persist:
    description:
      - Save the state for the next boot, and install the systemd units that restore and watch it. This needs O(cli).
      - With V(false) the saved state and its units are removed, and the next boot opens the router.
    type: bool
    default: true
  failure:
    description:
      - Action of a boot that cannot restore the saved state. V(fail_open) leaves the interfaces without a filter,
        V(fail_closed) passes only SSH, management entries, ARP, neighbour discovery and DHCP.
    type: str
    choices: [fail_open, fail_closed]
    default: fail_open
  cli:
    description:
      - Install C(/usr/local/sbin/tproxy-splicer) with the links C(map_update) and C(map_delete_elem). V(false) removes
        them.
    type: bool
    default: true
  helper:
    description:
      - The helper that executes diverter calls of an OpenZiti router. It serves root as well. This needs O(cli).
      - Without this option the helper stays as it is. With O(state=replaced) it is removed.
    type: dict
    suboptions:
      group:
        description:
          - Members of this group may use the helper, and root may. The module refuses a group that the machine does not
            have. With an empty name the helper is removed.
        type: str
        default: ""
  metrics:
    description:
      - The timer that writes the output of C(tproxy-splicer metrics) for the textfile collector of node_exporter. This
        needs O(cli).
      - Without this option the timer stays as it is. With O(state=replaced) it is removed.
    type: dict
    suboptions:
      dir:
        description:
          - The folder that node_exporter reads, Debian's C(/var/lib/prometheus/node-exporter) for example. The module
            refuses a folder that the machine does not have. With an empty name the timer and its file are removed.
        type: path
        default: ""
      interval:
        description: Seconds between two writes, 5 to 3600.
        type: int
        default: 30
      rules:
        description: Write the counters of each rule too. Otherwise the counters of the rules of an owner are summed up.
        type: bool
        default: false
"""

    TABLES = r"""
options:
  flow_tables:
    description:
      - Sizes of the tables of tracked flows, 4096 to 4194304 flows each. A flow takes 120 bytes of kernel memory,
        which the table has from the start.
      - A table that is not named keeps its size with O(state=merged). A new table, and a table that is not named with
        O(state=replaced), has 65536.
      - Another size loads the program again, on all interfaces that run it. The flows stay.
    type: dict
    suboptions:
      own:
        description: Flows that this router began.
        type: int
      forwarded:
        description: Flows that began behind this router, if O(interfaces[].policy.track) is V(all).
        type: int
      outside:
        description: Flows that began outside, towards this router.
        type: int
"""
