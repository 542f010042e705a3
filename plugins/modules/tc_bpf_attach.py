#!/usr/bin/python
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tc_bpf_attach
short_description: Compile a TC program and attach it to an interface
version_added: 0.1.0
description:
  - Attaches a TC BPF program to the ingress or egress hook of an interface, as a TCX program (Linux 6.6) or as a
    direct-action filter of clsact.
  - The default program is the splicer of this collection, with its policy for the interface.
  - Compiles with BCC only if no loaded or stored program has the identity of source, defines and compiler. BCC needs no
    kernel headers, and runs in its own process.
  - Rules may name an interface that does not exist yet. Attaching assigns the rules to the current interfaces.
  - Replaces a program in place, in one step. No packet is lost or unfiltered.
  - Never changes foreign filters or TCX programs on the hook, or a qdisc that existed before. A qdisc C(ingress) of
    another program is shared.
author:
  - netedge.tproxy contributors (@netedge)
extends_documentation_fragment:
  - netedge.tproxy.splicer
  - netedge.tproxy.splicer.changes
  - netedge.tproxy.splicer.confirm
requirements:
  - BCC's Python module (Debian C(python3-bpfcc)) on the machine that compiles. Never C(bcc) from PyPI, which is another
    project.
options:
  interface:
    description: Name of the interface.
    type: str
    required: true
    aliases: [dev]
  direction:
    description: The direction of the hook. The splicer works on V(ingress) only.
    type: str
    choices: [ingress, egress]
    default: ingress
  state:
    description:
      - V(absent) removes this program from hooks of both kinds. For the splicer the priority does not matter.
      - When the last attachment is removed, the pins are removed as well, rules included.
    type: str
    choices: [present, absent]
    default: present
  source:
    description:
      - Path on the controller of the C file to compile. The module sends all C(.c) and C(.h) files of its folder.
      - The default, without O(blob), is C(bpf/tproxy_splicer.c) of the collection. If the collection was installed
        without its C(bpf) folder, the default is the prebuilt program.
    type: str
  source_files:
    description:
      - The source folder as a dictionary from path to text. The action plugin sets it from O(source).
    type: dict
  function:
    description: Name of the C function of the program.
    type: str
    default: tproxy_splicer
  defines:
    description: Preprocessor definitions.
    type: dict
    default: {}
  compile_on:
    description:
      - The machine that compiles. V(controller) needs BCC on the controller, and none on the target.
      - A program with BCC's own tables creates them during compilation. This needs root on that machine.
    type: str
    choices: [target, controller]
    default: target
  compiled:
    description: The result of the compiler on the controller. The action plugin sets it for O(compile_on=controller).
    type: dict
  blob:
    description: Path on the controller of a prebuilt blob, which C(make blob) writes, instead of a source.
    type: str
  blob_content:
    description: The text of the blob. The action plugin sets it from O(blob).
    type: str
  priority:
    description:
      - The priority of the filter, 1 to 65535; lower priorities run first. TCX programs have no priority.
      - An interface has one splicer. Another priority or handle moves it, and no packet is unfiltered meanwhile.
    type: int
    default: 10
  handle:
    description: The handle of the filter within its priority.
    type: int
    default: 1
  hook:
    description:
      - The kind of the hook. TCX programs run before all filters of clsact.
      - V(auto) takes TCX where the kernel has it (Linux 6.6), unless a foreign filter is on the hook, which TCX would
        overtake. A program of another function without maps gets a filter.
      - With V(auto) a program that is right stays on its hook, and moves only when it is replaced anyway.
      - A move attaches the program to the new hook before it leaves the old one. No packet is lost or unfiltered.
    type: str
    choices: [auto, tcx, clsact]
    default: auto
    version_added: 1.0.0
  before:
    description:
      - Name or id of a foreign TCX program that must get packets after this program. Implies O(hook=tcx).
      - Without O(before) and O(after) a new TCX program runs last.
    type: str
    version_added: 1.0.0
  after:
    description: Name or id of a foreign TCX program that must get packets before this program. Implies O(hook=tcx).
    type: str
    version_added: 1.0.0
  policy:
    description:
      - Settings of the splicer on this interface, for packets that no rule decides.
      - Without this option an existing policy stays, and a new interface gets the defaults.
    type: dict
    suboptions:
      default_action:
        description:
          - Action for packets that no rule and no other option decides. Rules match TCP and UDP only. So this option
            also decides ESP, GRE, OSPF, IGMP and VRRP, for example.
          - V(audit) passes these packets, counts them as C(would_drop), and notes them in the drop log. So a router in
            production can rehearse V(drop). Rules are in force.
          - This option also decides fragments of TCP and UDP whose first fragment is not known, unless a rule that
            splices or drops has their destination. Other fragments get the verdict on the first fragment.
        type: str
        choices: [drop, pass, audit]
        default: drop
      allow_ssh:
        description:
          - Pass TCP port 22 to the addresses of this router. An address of V(lo) counts only if
            M(netedge.tproxy.ifindex_ip) recorded it.
        type: bool
        default: true
      allow_echo:
        description: Pass ICMP and ICMPv6 echo requests to this router.
        type: bool
        default: false
      accept:
        description:
          - Return value for passed packets that are not spliced. With V(unspec) later filters on the hook also see
            these packets, with V(ok) they do not.
        type: str
        choices: [ok, unspec]
        default: ok
      track:
        description:
          - Flows that begin inside, and whose answers pass as sessions. An answer passes if no rule matches it, and if
            its flow left by an interface with this option.
          - V(own) means UDP and ping of the router itself, from an address that M(netedge.tproxy.ifindex_ip) recorded.
            Answers to its NTP and DNS pass, for example. V(all) means forwarded and masqueraded TCP, UDP and ping, too.
          - The program for it stands on the egress hook of the interface. It drops no packet and changes none.
          - The default is V(own) if O(policy.default_action) is V(drop) or V(audit), and V(none) if it is V(pass).
            Before Linux 6.6 a foreign qdisc C(ingress) leaves no egress hook. Then the default is V(none) with a
            warning, and V(own) and V(all) are refused.
        type: str
        choices: [none, own, all]
      link_protocols:
        description:
          - Frames that are neither IPv4 nor IPv6, such as LLDP, EAPOL, slow protocols (LACP), PPPoE and MPLS.
          - No rule can name them. ARP always passes.
        type: str
        choices: [pass, drop]
        default: pass
      management:
        description: Packets to this host that always pass, before any rule, up to 64 entries. An entry matches source,
          protocol and port.
        type: list
        elements: dict
        default: []
        suboptions:
          source:
            description: Source prefix or address. Required.
            type: str
          protocol:
            description: V(tcp), V(udp), or another IP protocol by its IANA name or its number, such as V(ospf),
              V(vrrp), V(gre) or V(esp).
            type: str
            default: tcp
          port:
            description: Destination port, 1 to 65535. Required for V(tcp) and V(udp), and refused for others.
            type: str
  force:
    description:
      - Attach although preflight has an error, for example because the program would drop a new SSH connection from the
        controller. The errors become warnings.
    type: bool
    default: false
notes:
  - The splicer sets the packet mark of the interface's policy route, see M(netedge.tproxy.tproxy_route).
  - Maps of other programs are pinned by name, in a folder of O(pin_dir) with the name of the function.
seealso:
  - module: netedge.tproxy.tproxy_rule
  - module: netedge.tproxy.ifindex_ip
  - module: netedge.tproxy.tproxy_route
"""

EXAMPLES = r"""
- name: Attach the splicer to the LAN interface
  netedge.tproxy.tc_bpf_attach:
    interface: lan0
    policy:
      default_action: drop
      management:
        - {source: 10.99.0.0/24, port: 22}

- name: Attach another program
  netedge.tproxy.tc_bpf_attach:
    interface: lan0
    source: files/count_packets.c
    function: count_packets
    priority: 20

- name: Run before another TCX program
  netedge.tproxy.tc_bpf_attach:
    interface: lan0
    before: cil_from_netdev

- name: Block SSH on the interface, and roll back if that locks this controller out
  netedge.tproxy.tc_bpf_attach:
    interface: wan0
    policy:
      allow_ssh: false
    confirm_timeout: 60

- name: Remove the splicer
  netedge.tproxy.tc_bpf_attach:
    interface: lan0
    state: absent
"""

RETURN = r"""
attachment:
  description: The attachment after the run, predicted in check mode; null for O(state=absent).
  returned: success
  type: dict
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
      description: The kind of the hook, V(tcx) or V(clsact).
      type: str
    priority:
      description: The priority of the filter; null for TCX.
      type: int
    handle:
      description: The handle of the filter; null for TCX.
      type: int
    program_id:
      description: The kernel's id of the program; null if check mode attached nothing.
      type: int
    tag:
      description: The kernel's tag of the program; null as above. Not comparable between kernels.
      type: str
    name:
      description: The name of the attachment (function and identity).
      type: str
  sample:
    interface: lan0
    ifindex: 3
    direction: ingress
    hook: tcx
    priority: null
    handle: null
    program_id: 117
    tag: 764d8b06d6c68d49
    name: tproxy_splicer:c6ec167ecaa3
program:
  description: The requested program; null for O(state=absent).
  returned: success
  type: dict
  contains:
    identity:
      description: SHA-256 of source, defines, function and compiler.
      type: str
    source_sha256:
      description: SHA-256 of the same without the compiler.
      type: str
    instructions:
      description: Number of instructions; null if the program already ran and was not compiled.
      type: int
    compiled:
      description: Whether this run compiled it.
      type: bool
policy:
  description: The policy of the interface after the run, with its mark; null for other programs.
  returned: success
  type: dict
  sample:
    default_action: drop
    allow_ssh: true
    allow_echo: false
    accept: ok
    track: own
    link_protocols: pass
    management: []
    mark: "0x10000000/0x10000000"
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

from ..module_utils._tproxy.ansible_module.argspec import tc_bpf_attach
from ..module_utils._tproxy.ansible_module.runner import run
from ..module_utils._tproxy.operations.attach import ATTACH


def main() -> None:
    """Run the module."""
    run(tc_bpf_attach(), ATTACH)


if __name__ == "__main__":
    main()
