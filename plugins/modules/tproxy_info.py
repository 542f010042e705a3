#!/usr/bin/python
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tproxy_info
short_description: Read the state, counters and findings of the splicer
version_added: 0.1.0
description:
  - Reads attachments, policies, rules with their hits, reasons of passes and drops, tracked flows, routes and findings.
  - Changes nothing, and also works if no program is attached.
  - Fails without the rights of root, because an unprivileged task would find no rule and no program.
author:
  - netedge.tproxy contributors (@netedge)
options:
  gather_subset:
    description:
      - The members to read and to return. V(all) reads every one.
      - The other members are small, and are always returned.
      - With 10,000 rules, a run without V(rules) and V(findings) returns some KiB in place of megabytes.
    type: list
    elements: str
    choices: [all, attachments, program, rules, flows, drops, routes, findings]
    default: [all]
    version_added: 1.0.0
  drops:
    description:
      - The number of entries of the drop log to return, those that were seen last.
    type: int
    default: 20
    version_added: 1.0.0
extends_documentation_fragment:
  - netedge.tproxy.splicer
  - netedge.tproxy.splicer.reads
seealso:
  - module: netedge.tproxy.tc_bpf_attach
  - module: netedge.tproxy.tproxy_rule
"""

EXAMPLES = r"""
- name: Read the splicer's state
  netedge.tproxy.tproxy_info:
  register: splicer

- name: Read the interfaces and the policy routes alone
  netedge.tproxy.tproxy_info:
    gather_subset: [attachments, routes]
  register: interfaces

- name: Show the rules with hits
  ansible.builtin.debug:
    msg: "{{ splicer.rules | selectattr('hits.packets', 'gt', 0) }}"
"""

RETURN = r"""
attachments:
  description: One entry for each interface with the program or a policy of the splicer.
  returned: if O(gather_subset) has V(attachments) or V(all)
  type: list
  elements: dict
  contains:
    interface:
      description: Name of the interface.
      type: str
    ifindex:
      description: Its index.
      type: int
    direction:
      description: The direction of the hook.
      type: str
    hook:
      description: The kind of the hook, V(tcx) or V(clsact). Null without a program, as program_id, tag and name are.
      type: str
    priority:
      description: The priority of the filter. Null without a filter, as handle is.
      type: int
    handle:
      description: The handle of the filter.
      type: int
    program_id:
      description: The kernel's id of the program.
      type: int
    tag:
      description: The kernel's tag of the program.
      type: str
    name:
      description: The name of the attachment (function and identity).
      type: str
    drift:
      description:
        - Codes of the differences to the state that the last run left, for example V(no_filter), V(other_maps),
          V(addresses_differ).
        - C(docs/reference/findings.md) of the collection lists all codes.
      type: list
      elements: str
    policy:
      description: The policy of the interface; null without one.
      type: dict
    addresses:
      description: The recorded addresses of the interface.
      type: list
      elements: str
    reasons:
      description:
        - Packets and bytes for each reason, for example C(spliced), C(established), C(ssh).
        - C(passed), C(dropped) and C(would_drop) count by verdict. C(would_drop) has the packets that the default
          action would have dropped but for V(audit).
      type: dict
    ahead:
      description: Foreign programs that see the packets first.
      type: list
      elements: str
program:
  description: The pinned program; null without one.
  returned: if O(gather_subset) has V(program) or V(all)
  type: dict
  contains:
    program_id:
      description: The kernel's id of the program.
      type: int
    identity:
      description: SHA-256 of source, defines, function and compiler.
      type: str
    source_sha256:
      description: SHA-256 of the same without the compiler.
      type: str
    instructions:
      description: Number of instructions.
      type: int
    layout:
      description: Layout version of the maps.
      type: int
    socket_lookup:
      description:
        - Whether the program for socket lookups is attached. It gives intercepted packets that lose their assigned
          socket to the listener of their rule. These are datagrams in fragments, and all packets of an interface with
          a packet socket.
      type: bool
rules:
  description:
    - All stored rules, as M(netedge.tproxy.tproxy_rule) returns them, each with its hits.
    - C(in_force) is true if an interface of the rule has our program, and the program reads these rules.
    - Its member C(service) is the name of the OpenZiti service, if C(/etc/tproxy_splicer/service_names.json) has it.
  returned: if O(gather_subset) has V(rules) or V(all)
  type: list
  elements: dict
  sample:
    - destination: 172.16.240.0/24
      protocol: udp
      ports: "5060"
      service: ""
      hits: {packets: 12, bytes: 6120}
      in_force: true
flows:
  description:
    - The tables of tracked flows by name. C(own) has flows of this router, C(forwarded) those that it forwards or
      masquerades, and C(outside) those that began outside. C(entries) counts the flows that have not expired, C(size)
      those that fit.
  returned: if O(gather_subset) has V(flows) or V(all)
  type: dict
  sample:
    own: {entries: 12, size: 65536}
    forwarded: {entries: 0, size: 65536}
    outside: {entries: 3, size: 65536}
reserved_ports:
  description:
    - The ports of own addresses that rules of OpenZiti routers leave to this host. SSH daemons and management entries
      have them.
  returned: success
  type: list
  elements: dict
  contains:
    protocol:
      description: V(tcp) or V(udp).
      type: str
    port:
      description: The port.
      type: int
  sample:
    - {protocol: tcp, port: 22}
own_addresses:
  description:
    - The recorded addresses of interfaces without the program, such as C(lo).
    - M(netedge.tproxy.ifindex_ip) records them.
    - The program takes them for addresses of this host, too. C(attachments[].addresses) has the others.
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
      description: Its addresses.
      type: list
      elements: str
  sample:
    - {interface: lo, ifindex: 1, addresses: [192.0.2.7]}
drops:
  description:
    - The last distinct packets that the program dropped, or would have dropped but for V(audit), the last one first.
    - Each CPU notes a limited number of packets in a second, so the counts of a flood are samples.
  returned: if O(gather_subset) has V(drops) or V(all)
  type: list
  elements: dict
  contains:
    interface:
      description: The interface that received the packets, or its index if it is gone.
      type: str
    verdict:
      description: V(drop) or V(would_drop).
      type: str
    reason:
      description: The reason, as in C(attachments[].reasons).
      type: str
    rule:
      description: The rule that matched, as the rule set of now has it; empty without one.
      type: str
    protocol:
      description: Name or number of the protocol; empty for a packet without an IP header.
      type: str
    source:
      description: The source address.
      type: str
    destination:
      description: The destination address.
      type: str
    port:
      description: The destination port; 0 if the protocol has none, and for fragments but the first.
      type: int
    packets:
      description: The packets that the program noted.
      type: int
    answers:
      description:
        - Packets that left by this interface as answers to a would-be drop, but for the begin of a TCP handshake.
        - 0 without a tracker on the interface.
      type: int
    refusals:
      description: RSTs and ICMP errors that left as answers to a would-be drop.
      type: int
    first_seen:
      description: Time of the first one, in UTC.
      type: str
    last_seen:
      description: Time of the last one.
      type: str
  sample:
    - interface: wan0
      verdict: would_drop
      reason: default
      rule: ""
      protocol: tcp
      source: 198.51.100.7
      destination: 203.0.113.1
      port: 8443
      packets: 3
      answers: 0
      refusals: 3
      first_seen: "2026-01-05T10:00:00Z"
      last_seen: "2026-01-05T10:00:04Z"
generation:
  description: Number of the stored rule set.
  returned: success
  type: int
  sample: 7
image:
  description: Size of the compiled rules, in pages of 1 KiB and in bytes, and the capacity of their map.
  returned: success
  type: dict
  sample: {pages: 548, bytes: 561152, rules: 3, capacity_bytes: 1048576}
routes:
  description: The policy routes, as C(ip) commands.
  returned: if O(gather_subset) has V(routes) or V(all)
  type: list
  elements: str
drift:
  description: Codes of the differences that concern the whole router, for example V(policy_stale).
  returned: success
  type: list
  elements: str
daemons:
  description: The saved state and the processes of the router. Null without the rights to read the state.
  returned: success
  type: dict
  contains:
    saved_at:
      description: Time of the last save of the state for the next boot, in UTC; empty without a saved state.
      type: str
    boots:
      description: Whether the unit that restores the state at boot is enabled. Null without systemd.
      type: bool
    watcher:
      description: Whether the watcher runs. Null if its unit is not enabled.
      type: bool
    watcher_changes:
      description: The parts that the watcher has restored or saved since the boot.
      type: int
    helper:
      description: Whether a process listens at the socket of the helper. Null if that is not enabled.
      type: bool
  sample: {saved_at: "2026-01-05T10:00:00Z", boots: true, watcher: true, watcher_changes: 0, helper: null}
pending_change:
  description: The change that waits for its confirmation, as M(netedge.tproxy.tproxy_confirm) returns it, or null.
  returned: success
  type: dict
  sample: null
findings:
  description:
    - Conditions that cause or will cause a fault, errors first. C(severity) is V(error), V(warning) or V(note).
      C(code) is stable.
    - C(docs/reference/findings.md) of the collection lists all codes.
  returned: if O(gather_subset) has V(findings) or V(all)
  type: list
  elements: dict
  sample:
    - severity: warning
      code: no_route
      interface: lan0
      found: no policy route delivers spliced packets of lan0 (ipv4 ipv6)
      remedy: run tproxy_route for it again
"""

from ..module_utils._tproxy.ansible_module.argspec import tproxy_info
from ..module_utils._tproxy.ansible_module.runner import run
from ..module_utils._tproxy.operations.info import LOOK


def main() -> None:
    """Run the module."""
    run(tproxy_info(), LOOK)


if __name__ == "__main__":
    main()
