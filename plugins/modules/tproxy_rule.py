#!/usr/bin/python
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tproxy_rule
short_description: Say which flows go to which proxy
version_added: 0.1.0
description:
  - Adds, changes and removes the rules by which the splicer judges TCP and UDP flows.
  - One run applies all its rules in one step. No packet ever meets half of them.
  - The rules live in the kernel, beside what was compiled from them. There is no state file.
  - Among the rules that match a packet the one with the longest destination prefix wins, then the longest source
    prefix, then the narrowest port range. A prefix that has no range for the port hides nothing behind it.
author:
  - netedge.tproxy contributors (@netedge)
extends_documentation_fragment:
  - netedge.tproxy.splicer
  - netedge.tproxy.splicer.changes
  - netedge.tproxy.splicer.confirm
options:
  destination:
    description:
      - Destination prefix or address, IPv4 or IPv6. Host bits are masked, with a warning. V(0.0.0.0/0) is a prefix like
        any other.
      - Either this or O(rules) must be given.
    type: str
  source:
    description:
      - Source prefix or address. Any source when not given.
    type: str
  protocol:
    description:
      - V(tcp) or V(udp). Required for each rule.
    type: str
  ports:
    description:
      - Destination port or range, 0 to 65535, as V(80), V(80-443) or V("80:443"). Required for each rule.
      - With a colon it needs quotes in YAML, where V(22:50) is the number 1370.
    type: str
    aliases: [port]
  interfaces:
    description:
      - Names of the interfaces on which the rule holds. All when not given.
      - An interface that does not exist yet is stored, and the rule holds there after the next run that finds it.
    type: list
    elements: str
  action:
    description:
      - V(tproxy) gives the flow to the socket that listens on O(tproxy_ip) and O(tproxy_port).
      - V(pass) leaves it to the kernel, V(drop) drops it. Fragments have no port, and are judged by the interface's
        default action unless a rule with V(tproxy) has their destination, which drops them.
      - V(tproxy) when not given.
    type: str
  tproxy_ip:
    description:
      - Address on which the proxy listens. V(127.0.0.1), or V(::1) for an IPv6 destination, when not given.
    type: str
  tproxy_port:
    description:
      - Port on which the proxy listens, 1 to 65535. Required for O(action=tproxy).
    type: str
  on_missing:
    description:
      - What becomes of the flow while nothing listens there, V(drop) or V(pass). V(drop) when not given.
    type: str
  name:
    description:
      - Free text of up to 63 bytes, for people. Not part of what makes a rule the same rule.
    type: str
  rules:
    description:
      - A list of rules, each with the options above. One run with a list costs as much as one with a single rule.
    type: list
    elements: dict
    suboptions:
      destination:
        description: As O(destination). Required.
        type: str
      source:
        description: As O(source).
        type: str
      protocol:
        description: As O(protocol). Required.
        type: str
      ports:
        description: As O(ports). Required.
        type: str
        aliases: [port]
      interfaces:
        description: As O(interfaces).
        type: list
        elements: str
      action:
        description: As O(action).
        type: str
      tproxy_ip:
        description: As O(tproxy_ip).
        type: str
      tproxy_port:
        description: As O(tproxy_port).
        type: str
      on_missing:
        description: As O(on_missing).
        type: str
      name:
        description: As O(name).
        type: str
      owner:
        description: The rule's owner. O(owner) when not given.
        type: str
  owner:
    description:
      - Whose rules these are, up to 31 bytes. Owners share the table without touching each other's rules.
      - A rule is the same rule when owner, destination, source, protocol, ports and interfaces are the same.
    type: str
    default: ansible
  purge:
    description:
      - Remove this owner's rules that are not listed. With an empty list that is all of them.
    type: bool
    default: false
  force:
    description:
      - Put rules in force although preflight has an error, for example because one intercepts the subnet of an
        interface that it is in force on. The errors become warnings.
    type: bool
    default: false
  state:
    description:
      - Whether the rules shall be there. For V(absent) only what makes a rule the same rule needs to be given.
    type: str
    choices: [present, absent]
    default: present
notes:
  - Rules may be there before the program is attached; they are in force from then on.
  - At most 131071 rules fit. 100,000 rules take some seconds to compile and 32 MB of kernel memory.
seealso:
  - module: netedge.tproxy.tc_bpf_attach
  - module: netedge.tproxy.tproxy_confirm
  - module: netedge.tproxy.tproxy_info
"""

EXAMPLES = r"""
- name: SIP to the voice proxy
  netedge.tproxy.tproxy_rule:
    destination: 172.16.240.0/24
    protocol: udp
    ports: 5060
    tproxy_port: 58997

- name: Exactly these rules, and no other of this owner
  netedge.tproxy.tproxy_rule:
    purge: true
    rules:
      - {name: build farm, destination: 172.16.1.0/28, protocol: tcp, ports: 30000-40000, tproxy_port: 33401}
      - {name: telemetry, destination: 100.64.0.2, protocol: udp, ports: "5000:10000", tproxy_port: 39250}
      - {name: not this host, destination: 172.16.1.7, protocol: tcp, ports: 30000-40000, action: drop}

- name: Web from one branch only, and past the proxy while it is down
  netedge.tproxy.tproxy_rule:
    destination: 10.0.0.0/8
    source: 192.168.20.0/24
    protocol: tcp
    ports: 443
    tproxy_port: 8443
    on_missing: pass

- name: Drop all but what is listed, unless that cuts off this very controller
  netedge.tproxy.tproxy_rule:
    purge: true
    rules: "{{ rules_of_the_site }}"
    confirm_timeout: 60

- name: Remove it again
  netedge.tproxy.tproxy_rule:
    destination: 172.16.240.0/24
    protocol: udp
    ports: 5060
    state: absent
"""

RETURN = r"""
rules:
  description: All rules of all owners after the run, or as they would be, by destination, protocol and precedence.
  returned: success
  type: list
  elements: dict
  sample:
    - destination: 172.16.240.0/24
      source: 0.0.0.0/0
      protocol: udp
      ports: "5060"
      interfaces: []
      action: tproxy
      tproxy_ip: 127.0.0.1
      tproxy_port: 58997
      on_missing: drop
      name: ""
      owner: ansible
added:
  description: How many rules are new.
  returned: success
  type: int
  sample: 1
changed_rules:
  description: How many rules were there with another action, proxy or name.
  returned: success
  type: int
  sample: 0
removed:
  description: How many rules went.
  returned: success
  type: int
  sample: 0
generation:
  description: Number of the rule set in force. It grows by one with each change.
  returned: success
  type: int
  sample: 7
confirm:
  description:
    - The change that was to be confirmed. The task has done so when V(confirmed).
    - Null when nothing was changed, or no packet meets the change because no program is attached.
  returned: O(confirm_timeout) is not 0
  type: dict
  contains:
    state:
      description: V(confirmed), V(rolled_back), or V(pending) where no action plugin confirmed it.
      type: str
    token:
      description: Its token.
      type: str
    seconds:
      description: Within how many seconds it had to be confirmed.
      type: int
    seconds_left:
      description: How many were left; 0 once it is not pending.
      type: int
  sample:
    state: confirmed
    token: 6f1c0a4be2d95a37
    seconds: 60
    seconds_left: 0
"""

from ..module_utils._apply_rules import apply_rules
from ..module_utils._argspec import tproxy_rule
from ..module_utils._runner import run_change


def main() -> None:
    """Run the module."""
    run_change(tproxy_rule(), apply_rules)


if __name__ == "__main__":
    main()
