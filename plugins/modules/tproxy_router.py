#!/usr/bin/python
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tproxy_router
short_description: Manage the whole splicer state of one router
version_added: 1.0.0
description:
  - Brings one router to a desired state in one run, interfaces with policies, rules, routes, recorded addresses, saved
    state, command line and helper.
  - Checks all input before the first change, and reports all faults together.
  - Reads the state once. A run that changes nothing begins no change and starts no process.
  - With O(state=gathered) returns the state in force as options, which O(state=replaced) accepts on the same router or
    on another one.
author:
  - netedge.tproxy contributors (@netedge)
extends_documentation_fragment:
  - netedge.tproxy.splicer
  - netedge.tproxy.splicer.layers
  - netedge.tproxy.splicer.services
  - netedge.tproxy.splicer.tables
  - netedge.tproxy.splicer.changes
  - netedge.tproxy.splicer.confirm
attributes:
  diff_mode:
    description: Shows what changes, and no entry that stays.
requirements:
  - BCC's Python module (Debian C(python3-bpfcc)) on the machine that compiles. Never C(bcc) from PyPI, which is another
    project.
options:
  state:
    description:
      - V(merged) adds and changes the listed parts. Other parts stay.
      - V(replaced) makes the listed parts the whole state. Other interfaces, rules and routes are removed. It needs
        O(interfaces) and O(rules). Rules of OpenZiti routers, with an owner that begins with C(ziti:), stay. So do
        the addresses that M(netedge.tproxy.ifindex_ip) recorded for V(lo).
      - V(gathered) changes nothing, and returns the state in force.
      - V(rendered) returns the state after a run with O(rendered_as) on a router with O(running_config), and the
        difference. It runs on the controller and needs no router, no root and no library of routers.
      - V(absent) removes everything of this collection, the rules of all owners included. It lets every packet in, so
        it is not confirmed.
    type: str
    choices: [merged, replaced, gathered, rendered, absent]
    default: merged
  interfaces:
    description:
      - Interfaces with the splicer on their ingress hook. With the action plugin an entry may be a name alone, and one
        name may stand for a list of one.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the interface.
        type: str
        required: true
      state:
        description: V(absent) removes the splicer, its policy, its recorded addresses and its route.
        type: str
        choices: [present, absent]
        default: present
      policy:
        description:
          - Settings of the splicer on this interface, as in M(netedge.tproxy.tc_bpf_attach).
          - Without this option an existing policy stays, and a new interface gets the defaults.
        type: dict
        suboptions:
          default_action:
            description:
              - Action for packets that no rule and no other option decides.
              - V(audit) passes them, counts them as C(would_drop), and notes them in the drop log.
            type: str
            choices: [drop, pass, audit]
            default: drop
          allow_ssh:
            description: Pass TCP port 22 to the addresses of this router.
            type: bool
            default: true
          allow_echo:
            description: Pass ICMP and ICMPv6 echo requests to this router.
            type: bool
            default: false
          accept:
            description: With V(unspec) later filters on the hook also see passed packets, with V(ok) they do not.
            type: str
            choices: [ok, unspec]
            default: ok
          track:
            description:
              - Flows that begin inside, and whose answers pass as sessions.
              - V(own) means UDP and ping of the router itself, V(all) forwarded and masqueraded TCP, UDP and ping, too.
              - The default is V(own) if O(interfaces[].policy.default_action) is V(drop) or V(audit), and V(none) if it
                is V(pass) or if no egress hook can be had.
            type: str
            choices: [none, own, all]
          link_protocols:
            description: Frames that are neither IPv4, IPv6 nor ARP, such as LLDP, EAPOL, LACP and PPPoE.
            type: str
            choices: [pass, drop]
            default: pass
          management:
            description: Packets to this host that always pass, before any rule, up to 64 entries.
            type: list
            elements: dict
            default: []
            suboptions:
              source:
                description: Source prefix or address. Required.
                type: str
              protocol:
                description: V(tcp), V(udp), or another IP protocol by its IANA name or its number.
                type: str
                default: tcp
              port:
                description: Destination port, 1 to 65535. Required for V(tcp) and V(udp), and refused for others.
                type: str
      mark:
        description: Mark of spliced packets, as VALUE/MASK. The default is the mark of the interface's route.
        type: str
      priority:
        description: Priority of the filter, 1 to 65535; lower priorities run first.
        type: int
        default: 10
      handle:
        description: Handle of the filter within its priority.
        type: int
        default: 1
      hook:
        description: Kind of the hook, see O(netedge.tproxy.tc_bpf_attach#module:hook).
        type: str
        choices: [auto, tcx, clsact]
        default: auto
      before:
        description: Name or id of a foreign TCX program that must get packets after this program.
        type: str
      after:
        description: Name or id of a foreign TCX program that must get packets before this program.
        type: str
      addresses:
        description:
          - Addresses to record, which no rule takes from this host. V(auto) records those that the interface has.
          - An empty list records none.
        type: list
        elements: str
        default: [auto]
  rules:
    description:
      - Rules, with the options of M(netedge.tproxy.tproxy_rule). Without this option the rules in force stay.
    type: list
    elements: dict
    suboptions:
      destination:
        description: Destination prefix or address. Required.
        type: str
      source:
        description: Source prefix or address. The default is any source.
        type: str
      protocol:
        description:
          - V(tcp), V(udp), or another IP protocol by its IANA name or its number. Required.
          - A list means one rule for each.
        type: raw
      ports:
        description:
          - Destination port or range. Required for V(tcp) and V(udp).
          - A list, or a text with commas such as V("80,443,8000-8100"), means one rule for each.
        type: raw
        aliases: [port]
      interfaces:
        description: Names of the interfaces to which the rule applies. The default is all interfaces.
        type: list
        elements: str
      action:
        description: V(tproxy), V(pass) or V(drop). The default is V(tproxy).
        type: str
      tproxy_ip:
        description: Address of the proxy's socket. The default is V(127.0.0.1), or V(::1) for an IPv6 destination.
        type: str
      tproxy_port:
        description: Port of the proxy's socket. Required for C(action) V(tproxy).
        type: str
      tproxy_user:
        description:
          - User of the proxy, by name or number. Only sockets of this user get packets. The default is any user.
          - A name is looked up on the router, and the rule keeps its number.
        type: str
      on_missing:
        description: Action while the proxy does not listen, V(drop) or V(pass). The default is V(drop).
        type: str
      fragments:
        description:
          - When datagrams in fragments reach the proxy, V(on_demand), V(always) or V(drop), as
            O(netedge.tproxy.tproxy_rule#module:fragments) tells. The default is V(on_demand).
        type: str
      name:
        description: Free text of up to 63 bytes. Messages name the rule by it.
        type: str
      owner:
        description: Owner of the rule. The default is O(owner).
        type: str
  owner:
    description: Owner of the rules, up to 31 bytes.
    type: str
    default: ansible
  purge:
    description: With O(state=merged), remove the rules of this owner that O(rules) does not list, and those of
      each owner in O(layers) that its list does not have.
    type: bool
    default: false
  running_config:
    description:
      - With O(state=rendered), the state of the router as RV(gathered) or the command C(tproxy-splicer export) returned
        it. The default is a router without anything of this collection.
    type: dict
  rendered_as:
    description: With O(state=rendered), the state whose run is rendered.
    type: str
    choices: [merged, replaced]
    default: merged
  routes:
    description:
      - Policy routes that deliver spliced packets to this host, as M(netedge.tproxy.tproxy_route) adds them.
      - Without this option each interface of O(interfaces) has the route of the defaults.
    type: list
    elements: dict
    suboptions:
      interfaces:
        description: Names of the interfaces.
        type: list
        elements: str
        required: true
      mark:
        description: Mark of spliced packets, as VALUE/MASK.
        type: str
        default: "0x10000000/0x10000000"
      table:
        description: Routing table.
        type: int
        default: 1080
      priority:
        description: Priority of the policy rule, between the tables local (0) and main (32766).
        type: int
        default: 1080
      families:
        description: Address families.
        type: list
        elements: str
        choices: [ipv4, ipv6]
        default: [ipv4, ipv6]
  source:
    description: Path on the controller of the C file, as in M(netedge.tproxy.tc_bpf_attach).
    type: str
  source_files:
    description: The source folder as a dictionary from path to text. The action plugin sets it from O(source).
    type: dict
  defines:
    description: Preprocessor definitions.
    type: dict
    default: {}
  compile_on:
    description: The machine that compiles. V(controller) needs BCC on the controller, and none on the target.
    type: str
    choices: [target, controller]
    default: target
  compiled:
    description: The result of the compiler on the controller. The action plugin sets it for O(compile_on=controller).
    type: dict
  blob:
    description: Path on the controller of a prebuilt blob instead of a source.
    type: str
  blob_content:
    description: The text of the blob. The action plugin sets it from O(blob).
    type: str
  force:
    description: Continue although preflight has an error. The errors become warnings.
    type: bool
    default: false
notes:
  - While a change waits for its confirmation, only the kernel has the new state. Command line, units and saved state
    follow after the confirmation. The action plugin runs the module again for them. Without the action plugin,
    RV(deferred) is true, and the next run does that.
  - With O(state=rendered) the action plugin finds each fault of the options, of the saved state, of limits and of the
    compiled rules. It sees no sockets, no routes and no SSH session, so a router may still refuse the change. For an
    interface that O(running_config) does not have, it predicts C(track) for a kernel with an egress hook.
  - With O(state=rendered), C(changed) says whether the router would change.
  - A program that was compiled from the same source stays, also after an upgrade of BCC. To compile it anew, run
    M(netedge.tproxy.tc_bpf_attach).
seealso:
  - module: netedge.tproxy.tc_bpf_attach
  - module: netedge.tproxy.tproxy_rule
  - module: netedge.tproxy.tproxy_confirm
  - module: netedge.tproxy.tproxy_info
"""

EXAMPLES = r"""
- name: Splice SIP on two interfaces, and keep the state for the next boot
  netedge.tproxy.tproxy_router:
    interfaces:
      - name: lan0
      - name: wan0
        policy:
          allow_ssh: false
          management:
            - {source: 10.99.0.0/24, port: 22}
    rules:
      - {name: voice, destination: 172.16.240.0/24, protocol: udp, ports: 5060, tproxy_port: 58997}

- name: Read the state of a router
  netedge.tproxy.tproxy_router:
    state: gathered
  register: router

- name: Restore that state, and remove what came since
  netedge.tproxy.tproxy_router:
    state: replaced
    interfaces: "{{ router.gathered.interfaces }}"
    rules: "{{ router.gathered.rules }}"
    routes: "{{ router.gathered.routes }}"
    flow_tables: "{{ router.gathered.flow_tables }}"

- name: Refuse a bad rule set without a router, and show the difference
  netedge.tproxy.tproxy_router:
    state: rendered
    running_config: "{{ lookup('ansible.builtin.file', 'exports/edge1.yml') | from_yaml }}"
    interfaces:
      - name: lan0
    rules:
      - {name: voice, destination: 172.16.240.0/24, protocol: udp, ports: 5060, tproxy_port: 58997}
  diff: true

- name: Track more flows of the clients behind a router that masquerades
  netedge.tproxy.tproxy_router:
    interfaces:
      - {name: wan0, policy: {track: all}}
    flow_tables: {forwarded: 262144}

- name: Remove the splicer from one interface
  netedge.tproxy.tproxy_router:
    interfaces:
      - {name: lan7, state: absent}

- name: Remove everything
  netedge.tproxy.tproxy_router:
    state: absent
"""

RETURN = r"""
interfaces:
  description: Names of the interfaces that run the splicer after the run, predicted in check mode.
  returned: O(state) is not V(gathered)
  type: list
  elements: str
  sample: [lan0, wan0]
program:
  description: The program of the interfaces. Null where no interface is listed.
  returned: O(state) is V(merged), V(replaced) or V(absent)
  type: dict
  contains:
    identity:
      description: SHA-256 of source, definitions, function and compiler.
      type: str
    source_sha256:
      description: SHA-256 of source, definitions and function.
      type: str
rules:
  description: Number of rules of all owners after the run.
  returned: O(state) is not V(gathered)
  type: int
  sample: 3
added:
  description: Number of added rules.
  returned: O(state) is not V(gathered)
  type: int
  sample: 1
changed_rules:
  description: Number of rules that got another action, proxy or name.
  returned: O(state) is not V(gathered)
  type: int
  sample: 0
removed:
  description: Number of removed rules.
  returned: O(state) is not V(gathered)
  type: int
  sample: 0
generation:
  description: Number of the stored rule set. It grows by one with each change.
  returned: O(state) is V(merged), V(replaced) or V(absent)
  type: int
  sample: 7
changed_parts:
  description:
    - Names of the parts that the run changes, of C(flow tables), C(rules), C(routes), C(addresses), C(policies),
      C(filters), C(command line), C(units), C(saved state) and C(pins).
  returned: O(state) is V(merged), V(replaced) or V(absent)
  type: list
  elements: str
  sample: [rules, saved state]
deferred:
  description: Whether command line, units and saved state wait for the confirmation of the change.
  returned: O(state) is V(merged), V(replaced) or V(absent)
  type: bool
  sample: false
lost_router_rules:
  description:
    - Whether rules of OpenZiti routers are gone. The run removed them, or it found no maps, or damaged ones, to take
      them from. An OpenZiti router never repeats a call, so restart it then.
  returned: O(state) is V(merged), V(replaced) or V(absent)
  type: bool
  sample: false
gathered:
  description:
    - The state in force, as options of this module. It has no counters, no program, and no rules of OpenZiti routers.
  returned: O(state=gathered)
  type: dict
  sample:
    interfaces:
      - name: lan0
        hook: clsact
        priority: 10
        handle: 1
        addresses: [auto]
        policy:
          {default_action: drop, allow_ssh: true, allow_echo: false, accept: ok, track: own, management: []}
    rules:
      - destination: 172.16.240.0/24
        source: 0.0.0.0/0
        protocol: udp
        ports: "5060"
        action: tproxy
        tproxy_ip: 127.0.0.1
        tproxy_port: 58997
        tproxy_user: ""
        on_missing: drop
        fragments: on_demand
        name: voice
        owner: ansible
    routes:
      - {interfaces: [lan0], mark: 0x10000000/0x10000000, table: 1080, priority: 1080}
    flow_tables: {own: 65536, forwarded: 65536, outside: 65536}
    persist: true
    failure: fail_open
    cli: true
    helper: {group: ""}
    metrics: {dir: "", interval: 30, rules: false}
rendered:
  description:
    - The state after the run, in the form of RV(gathered). A user that only the router knows stays a name.
  returned: O(state=rendered)
  type: dict
  sample:
    interfaces: []
    rules: []
    routes: []
    flow_tables: {own: 65536, forwarded: 65536, outside: 65536}
    persist: true
    failure: fail_open
    cli: true
    helper: {group: ""}
    metrics: {dir: "", interval: 30, rules: false}
confirm:
  description:
    - The change with confirmation. The task has confirmed it if the state is V(confirmed).
    - Null if no packet meets the change.
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
    seconds: 300
    seconds_left: 0
"""

from ..module_utils._tproxy.ansible_module.argspec import tproxy_router
from ..module_utils._tproxy.ansible_module.runner import run
from ..module_utils._tproxy.cli.router import MANAGE_ROUTER


def main() -> None:
    """Run the module."""
    run(tproxy_router(), MANAGE_ROUTER)


if __name__ == "__main__":
    main()
