#!/usr/bin/python
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tproxy_rule
short_description: Manage transparent-proxy rules
version_added: 0.1.0
description:
  - Adds, changes and removes the splicer's rules for TCP and UDP flows, and for other IP protocols.
  - One run applies all its rules in one step. No packet meets a part of them.
  - The kernel holds the rules, together with the image that was compiled from them. There is no state file.
  - If several rules match a packet, the longest destination prefix wins, then the longest source prefix, then the
    narrowest port range. A prefix without a range for the port does not hide shorter prefixes.
author:
  - netedge.tproxy contributors (@netedge)
extends_documentation_fragment:
  - netedge.tproxy.splicer
  - netedge.tproxy.splicer.layers
  - netedge.tproxy.splicer.changes
  - netedge.tproxy.splicer.confirm
options:
  destination:
    description:
      - Destination prefix or address, IPv4 or IPv6. Host bits are cleared, with a warning. V(0.0.0.0/0) is a valid
        prefix.
      - This, O(rules) or O(layers) is required.
    type: str
  source:
    description:
      - Source prefix or address. The default is any source.
    type: str
  protocol:
    description:
      - V(tcp), V(udp), or another IP protocol by its IANA name or its number, such as V(ospf), V(vrrp), V(gre), V(esp),
        V(ah), V(igmp), V(sctp), V(ipip) or V(103). Required for each rule.
      - A list of V(tcp) and V(udp), or of other protocols, means one rule for each.
      - Rules for other protocols have the action V(pass) or V(drop), and no O(ports).
      - V(icmp) and V(ipv6-icmp) are refused, because a row of the packet table judges them before the rules.
    type: raw
  ports:
    description:
      - Destination port or range, 0 to 65535, as V(80), V(80-443) or V("80:443"). Required for V(tcp) and V(udp).
      - A list, or a text with commas such as V("80,443,8000-8100"), means one rule for each port or range.
      - Quote a range with a colon, because V(20:21) is the number 1221 in YAML. Such a number is refused. So quote a
        port of this kind, too.
    type: raw
    aliases: [port]
  interfaces:
    description:
      - Names of the interfaces to which the rule applies. The default is all interfaces.
      - An interface that does not exist yet is stored. The rule applies to it after the next run that finds it.
    type: list
    elements: str
  action:
    description:
      - V(tproxy) gives the flow to the socket that listens on O(tproxy_ip) and O(tproxy_port).
      - V(pass) passes the flow to the kernel, V(drop) drops it.
      - A datagram in fragments gets the verdict on its first fragment, which has the ports. With V(tproxy),
        O(fragments) tells when it reaches the proxy.
      - A fragment whose first fragment is not known is dropped if a rule with V(tproxy) or V(drop) has its protocol and
        its destination. For the others the default action of the interface decides.
      - The default is V(tproxy).
    type: str
  tproxy_ip:
    description:
      - Address of the proxy's socket. The default is V(127.0.0.1), or V(::1) for an IPv6 destination.
    type: str
  tproxy_port:
    description:
      - Port of the proxy's socket, 1 to 65535. Required for O(action=tproxy).
    type: str
  tproxy_user:
    description:
      - User of the proxy, by name or number. Only sockets of this user get packets. Another user's socket counts as
        C(wrong_listener), and the packet is dropped, whatever O(on_missing) says. The default is any user.
      - A name is looked up on the router, and the rule keeps its number.
      - The user of a socket is the one that opened it. A proxy that root starts mostly opens its sockets as root, and
        systemd opens those of a socket unit as root. Their user is V(0).
    type: str
  on_missing:
    description:
      - Action while the proxy does not listen, V(drop) or V(pass). The default is V(drop).
    type: str
  fragments:
    description:
      - When datagrams in fragments reach the proxy.
      - With V(on_demand), which is the default, the first large datagram of a service is lost. It makes the watcher
        look for the listener, and the next one arrives.
      - With V(always) the watcher keeps the listener known, so the first one arrives, too. The rule must be part of the
        saved state (O(netedge.tproxy.tproxy_router#module:persist) or M(netedge.tproxy.tproxy_state)).
      - With V(drop) no datagram in fragments reaches the proxy.
      - Both need Linux 5.17 and the watcher. Without them, such datagrams are dropped and counted as C(fragment).
    type: str
  name:
    description:
      - Free text of up to 63 bytes, without control, bidirectional or line-separator characters.
      - It is not part of the identity of a rule.
    type: str
  rules:
    description:
      - A list of rules, each with the options above. A run with a list takes as long as a run with one rule.
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
        type: raw
      ports:
        description: As O(ports).
        type: raw
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
      tproxy_user:
        description: As O(tproxy_user).
        type: str
      on_missing:
        description: As O(on_missing).
        type: str
      fragments:
        description: As O(fragments).
        type: str
      name:
        description: As O(name).
        type: str
      owner:
        description: Owner of the rule. The default is O(owner).
        type: str
  owner:
    description:
      - Owner of the rules, up to 31 bytes, without control, bidirectional or line-separator characters.
      - A run changes the rules of its own owner only.
      - The identity of a rule is its owner, destination, source, protocol, ports and interfaces.
    type: str
    default: ansible
  purge:
    description:
      - Remove the rules of this owner that are not listed, and those of each owner in O(layers). With an empty list,
        remove all of them.
    type: bool
    default: false
  force:
    description:
      - Apply the rules although preflight has an error, for example because a rule intercepts the subnet of its own
        interface. The errors become warnings.
    type: bool
    default: false
  return_rules:
    description:
      - The rules in the result. V(changed) returns those that the run adds, changes or removes, V(all) all rules of all
        owners, V(none) none. The numbers of the result do not depend on it.
      - An answer with 10,000 rules has 4 MB, and M(netedge.tproxy.tproxy_info) returns all rules with their counters.
    type: str
    choices: [changed, all, none]
    default: changed
  state:
    description:
      - V(present) adds or changes the rules, V(absent) removes them. V(absent) needs the identity of the rules only.
      - A rule that is not there is no fault with V(absent). If another rule has its destination and protocol, a warning
        names it.
    type: str
    choices: [present, absent]
    default: present
notes:
  - Rules may exist before the program is attached. They apply as soon as it is attached.
  - The limit is 131071 rules. 100,000 rules take some seconds to compile, and 32 MB of kernel memory.
seealso:
  - module: netedge.tproxy.tc_bpf_attach
  - module: netedge.tproxy.tproxy_confirm
  - module: netedge.tproxy.tproxy_info
"""

EXAMPLES = r"""
- name: Splice SIP to the voice proxy
  netedge.tproxy.tproxy_rule:
    destination: 172.16.240.0/24
    protocol: udp
    ports: 5060
    tproxy_port: 58997

- name: Set exactly these rules of this owner
  netedge.tproxy.tproxy_rule:
    purge: true
    rules:
      - {name: build farm, destination: 172.16.1.0/28, protocol: tcp, ports: 30000-40000, tproxy_port: 33401}
      - {name: telemetry, destination: 100.64.0.2, protocol: udp, ports: "5000:10000", tproxy_port: 39250}
      - {name: exception, destination: 172.16.1.7, protocol: tcp, ports: 30000-40000, action: drop}

- name: Let the router's neighbours and the other end of a tunnel in
  netedge.tproxy.tproxy_rule:
    rules:
      - {destination: 224.0.0.0/24, source: 10.1.0.0/24, protocol: [ospf, vrrp], interfaces: [lan0], action: pass}
      - {destination: 10.1.0.1, source: 10.1.0.0/24, protocol: ospf, interfaces: [lan0], action: pass}
      - {destination: 198.51.100.1, source: 203.0.113.9, protocol: gre, interfaces: [wan0], action: pass}

- name: Splice the web traffic of one host
  netedge.tproxy.tproxy_rule:
    destination: 172.16.1.9
    protocol: [tcp, udp]
    ports: 80,443,8000-8100
    tproxy_port: 8443

- name: Splice the web traffic of one branch, and pass it while the proxy is down
  netedge.tproxy.tproxy_rule:
    destination: 10.0.0.0/8
    source: 192.168.20.0/24
    protocol: tcp
    ports: 443
    tproxy_port: 8443
    on_missing: pass

- name: Set the rules of the site and of the branch, each with an owner of its own
  netedge.tproxy.tproxy_rule:
    purge: true
    layers:
      site:
        - {destination: 172.16.1.0/28, protocol: tcp, ports: 30000-40000, tproxy_port: 33401}
      branch:
        - {destination: 172.16.1.7, protocol: tcp, ports: 30000-40000, action: drop}

- name: Replace the rules, and roll back if that locks this controller out
  netedge.tproxy.tproxy_rule:
    purge: true
    rules: "{{ rules_of_the_site }}"
    confirm_timeout: 60

- name: Remove the SIP rule
  netedge.tproxy.tproxy_rule:
    destination: 172.16.240.0/24
    protocol: udp
    ports: 5060
    state: absent
"""

RETURN = r"""
rules:
  description:
    - The rules that the run adds or changes, predicted in check mode, by destination, protocol and precedence.
    - With O(return_rules=all) all rules of all owners after the run, with O(return_rules=none) none.
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
      tproxy_user: ""
      on_missing: drop
      fragments: on_demand
      name: ""
      owner: ansible
removed_rules:
  description: The rules that the run removes, in the form of RV(rules). Empty with O(return_rules=none).
  returned: success
  type: list
  elements: dict
  sample: []
added:
  description: Number of added rules.
  returned: success
  type: int
  sample: 1
changed_rules:
  description: Number of rules that got another action, proxy or name.
  returned: success
  type: int
  sample: 0
removed:
  description: Number of removed rules.
  returned: success
  type: int
  sample: 0
generation:
  description: Number of the stored rule set. It grows by one with each change.
  returned: success
  type: int
  sample: 7
waits_for:
  description:
    - The interfaces that need the program before rules of this task are in force, or V(an interface) if no interface
      has it. The module warns of them with the finding V(rule_not_in_force). Empty if all rules are in force.
    - An interface counts only if its hook has our program and the program reads these rules.
  returned: success
  type: list
  elements: str
  sample: []
confirm:
  description:
    - The change with confirmation. The task has confirmed it if the state is V(confirmed).
    - Null if nothing was changed, or if no packet meets the change because no program is attached.
    - Null if O(confirm_by_default) is set and the change cannot cut the operator off.
  returned: O(confirm_timeout) is not 0
  type: dict
  contains:
    state:
      description: V(confirmed), V(rolled_back), or V(pending) if no action plugin confirmed it.
      type: str
    token:
      description: Token of the change.
      type: str
    seconds:
      description: Time limit of the confirmation, in seconds.
      type: int
    seconds_left:
      description: Seconds left; 0 if the change is not pending.
      type: int
  sample:
    state: confirmed
    token: 6f1c0a4be2d95a37
    seconds: 60
    seconds_left: 0
"""

from ..module_utils._tproxy.ansible_module.argspec import tproxy_rule
from ..module_utils._tproxy.ansible_module.runner import run
from ..module_utils._tproxy.operations.rules import APPLY_RULES


def main() -> None:
    """Run the module."""
    run(tproxy_rule(), APPLY_RULES)


if __name__ == "__main__":
    main()
