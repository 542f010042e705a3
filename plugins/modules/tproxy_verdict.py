#!/usr/bin/python
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tproxy_verdict
short_description: Ask the splicer for its verdict on a packet
version_added: 0.1.0
description:
  - Runs the attached program of an interface on the first packet of a flow, such as a TCP SYN or a UDP datagram.
    Returns the verdict, the reason and the rule. The packet is on no wire.
  - With O(expect) the module fails if the answer differs, so a playbook can test a policy.
author:
  - netedge.tproxy contributors (@netedge)
extends_documentation_fragment:
  - netedge.tproxy.splicer
  - netedge.tproxy.splicer.reads
options:
  interface:
    description: Ingress interface of the packet. Required for each flow.
    type: str
  source:
    description: Source address. Required for each flow.
    type: str
  source_port:
    description: Source port. The default is V(49152).
    type: str
  destination:
    description:
      - Destination address. Required for each flow.
      - Either this or O(flows) is required.
    type: str
  protocol:
    description: As O(netedge.tproxy.tproxy_rule#module:protocol), one of them. Required for each flow.
    type: str
  port:
    description: Destination port. Required for V(tcp) and V(udp). Other protocols have no ports.
    type: str
  expect:
    description:
      - The expected answer. A word is a verdict (V(pass), V(drop), V(would_drop)) or a reason (V(spliced), V(default),
        ...).
      - A dictionary has any of C(verdict), C(reason) and C(rule) (the name of the rule).
    type: raw
  flows:
    description: A list of flows, each with the options above. The module reports all answers that differ.
    type: list
    elements: dict
    suboptions:
      interface:
        description: As O(interface).
        type: str
      source:
        description: As O(source).
        type: str
      source_port:
        description: As O(source_port).
        type: str
      destination:
        description: As O(destination).
        type: str
      protocol:
        description: As O(protocol).
        type: str
      port:
        description: As O(port).
        type: str
      expect:
        description: As O(expect).
        type: raw
notes:
  - The program uses the same sockets as for real packets. Without a listener the answer is C(no_listener).
    If another socket has the port of an OpenZiti router's rule, the answer is C(wrong_listener).
  - The questions change no counter of reasons and rules.
  - The module cannot ask interfaces without an Ethernet header, because test packets of the kernel always have one.
seealso:
  - module: netedge.tproxy.tproxy_rule
"""

EXAMPLES = r"""
- name: Ask for the verdict on one call
  netedge.tproxy.tproxy_verdict:
    interface: lan0
    source: 10.1.1.2
    destination: 172.16.240.9
    protocol: udp
    port: 5060
  register: call

- name: Test the policy
  netedge.tproxy.tproxy_verdict:
    flows:
      - {interface: lan0, source: 10.1.1.2, destination: 172.16.1.5, protocol: tcp, port: 30022, expect: spliced}
      - {interface: lan0, source: 10.1.1.2, destination: 172.16.1.5, protocol: tcp, port: 80, expect: drop}
      - interface: lan0
        source: 10.1.1.2
        destination: 172.16.1.1
        protocol: tcp
        port: 30022
        expect: {verdict: drop, rule: not the gateway}
"""

RETURN = r"""
verdict:
  description:
    - V(pass), V(drop), or V(would_drop) for a packet that passes because the default action is V(audit).
    - With O(flows), only the entries of RV(flows) have it, as the next three members.
  returned: success, for a single flow
  type: str
  sample: pass
reason:
  description: The reason, by the name of its counter in M(netedge.tproxy.tproxy_info).
  returned: success, for a single flow
  type: str
  sample: spliced
rule:
  description: The best rule for the flow, as M(netedge.tproxy.tproxy_rule) returns it; null if no rule matches.
  returned: success, for a single flow
  type: dict
reply:
  description:
    - The reply to a flow that this router forwards. C(interface) is the one to which the route of the destination
      leads, C(verdict) and C(reason) are those of the reply there. The reason is C(session) if C(track) of that
      interface is V(all) and no rule matches the reply. It is empty on an interface without the program.
    - It is null for a flow that is dropped, spliced, or for this router itself.
  returned: success, for a single flow
  type: dict
  sample: {interface: wan0, verdict: pass, reason: session}
rule_elsewhere:
  description:
    - The best rule that has the flow on other interfaces, as M(netedge.tproxy.tproxy_rule) returns it.
    - It is null if a rule matches on this interface, and if no rule has the flow.
  returned: success, for a single flow
  type: dict
  version_added: 1.0.0
flows:
  description: Each flow with its verdict, reason, rule, reply and rule_elsewhere.
  returned: success
  type: list
  elements: dict
  sample:
    - interface: lan0
      source: 10.1.1.2
      source_port: 49152
      destination: 172.16.240.9
      protocol: udp
      port: 5060
      verdict: pass
      reason: spliced
      rule: {destination: 172.16.240.0/24, protocol: udp, ports: "5060", tproxy_port: 58997}
      reply: null
      rule_elsewhere: null
"""

from ..module_utils._tproxy.ansible_module.argspec import tproxy_verdict
from ..module_utils._tproxy.ansible_module.runner import run
from ..module_utils._tproxy.operations.verdict import ASK_VERDICT


def main() -> None:
    """Run the module."""
    run(tproxy_verdict(), ASK_VERDICT)


if __name__ == "__main__":
    main()
