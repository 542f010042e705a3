#!/usr/bin/python
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tproxy_info
short_description: Show what the splicer enforces, what it has seen and what is wrong
version_added: 0.1.0
description:
  - Reads attachments, policies, rules with their hits, reasons of passes and drops, routes and findings.
  - Changes nothing, and works when nothing is attached.
author:
  - netedge.tproxy contributors (@netedge)
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

- name: Show the rules that were hit
  ansible.builtin.debug:
    msg: "{{ splicer.rules | selectattr('hits.packets', 'gt', 0) }}"
"""

RETURN = r"""
attachments:
  description: One entry for each interface that has a filter or a policy of the splicer.
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
    direction:
      description: The hook.
      type: str
    priority:
      description: The filter's priority; null when there is no filter. So are handle, program_id, tag and name.
      type: int
    handle:
      description: The filter's handle.
      type: int
    program_id:
      description: The kernel's id of the program.
      type: int
    tag:
      description: The kernel's tag of the program.
      type: str
    name:
      description: The filter's name, function and identity.
      type: str
    drift:
      description:
        - What is not as it was left, each by a word, for example V(no_filter), V(other_maps), V(addresses_differ).
        - C(docs/reference/findings.md) of the collection lists them all.
      type: list
      elements: str
    policy:
      description: The interface's policy; null when it has none.
      type: dict
    addresses:
      description: The addresses recorded for the interface.
      type: list
      elements: str
    reasons:
      description:
        - For each reason met, packets and bytes passed and dropped, for example C(spliced), C(established), C(ssh).
      type: dict
    ahead:
      description: Other programs that see the packets first.
      type: list
      elements: str
program:
  description: The pinned program; null when there is none.
  returned: success
  type: dict
  contains:
    program_id:
      description: The kernel's id of it.
      type: int
    identity:
      description: SHA-256 of source, defines, function and compiler.
      type: str
    source_sha256:
      description: SHA-256 of the same without the compiler.
      type: str
    instructions:
      description: How many instructions it has.
      type: int
    layout:
      description: Version of the maps' layout.
      type: int
rules:
  description: All rules as M(netedge.tproxy.tproxy_rule) returns them, each with its hits.
  returned: success
  type: list
  elements: dict
  sample:
    - destination: 172.16.240.0/24
      protocol: udp
      ports: "5060"
      hits: {packets: 12, bytes: 6120}
generation:
  description: Number of the rule set in force.
  returned: success
  type: int
  sample: 7
image:
  description: Size of the compiled rules, in pages of 1 KiB and bytes, and the room before their map must grow.
  returned: success
  type: dict
  sample: {pages: 548, bytes: 561152, rules: 3, capacity_bytes: 1048576}
routes:
  description: The policy routes, as C(ip) would write them.
  returned: success
  type: list
  elements: str
drift:
  description: What of the whole machine is not as it was left, each by a word, for example V(policy_stale).
  returned: success
  type: list
  elements: str
findings:
  description:
    - What is wrong or will be, the gravest first. C(severity) is V(error), V(warning) or
      V(note), C(code) a stable word.
    - C(docs/reference/findings.md) of the collection lists all codes.
  returned: success
  type: list
  elements: dict
  sample:
    - severity: warning
      code: no_route
      interface: lan0
      found: no policy route delivers what lan0 splices (ipv4 ipv6)
      remedy: run tproxy_route for it again
"""

from ..module_utils._argspec import tproxy_info
from ..module_utils._inspect_state import inspect
from ..module_utils._runner import run


def main() -> None:
    """Run the module."""
    run(tproxy_info(), inspect)


if __name__ == "__main__":
    main()
