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
  - Brings a TC BPF program onto the ingress or egress hook of an interface, as a direct-action filter.
  - Without further options that program is the collection's splicer, with its policy for the interface.
  - Compiles by BCC only when nothing at hand has the identity that source, defines and compiler give. BCC needs no
    kernel headers, and runs in a process of its own.
  - Rules may name an interface that does not exist yet. Attaching binds them to the interfaces of today.
  - A program in force is replaced in place, in one step. No packet is lost and none passes unfiltered.
  - Other filters on the hook, and a clsact qdisc that was there before, are never touched.
author:
  - netedge.tproxy contributors (@netedge)
extends_documentation_fragment:
  - netedge.tproxy.splicer
  - netedge.tproxy.splicer.changes
  - netedge.tproxy.splicer.confirm
requirements:
  - BCC's Python module (Debian C(python3-bpfcc)) where the program is compiled. Never C(bcc) from PyPI, which is
    another project.
options:
  interface:
    description: Name of the interface.
    type: str
    required: true
    aliases: [dev]
  direction:
    description: The hook. The splicer belongs on V(ingress).
    type: str
    choices: [ingress, egress]
    default: ingress
  state:
    description:
      - V(absent) removes our filter from the hook, the splicer from whatever priority. With the last filter that uses
        them the pins go too, rules included.
    type: str
    choices: [present, absent]
    default: present
  source:
    description:
      - Path on the controller of the C file to compile. All C(.c) and C(.h) files of its folder travel with it.
      - The collection's C(bpf/tproxy_splicer.c) when neither this nor O(blob) is given; or the collection's prebuilt
        blob, where the C(bpf) folder was left out of the installation.
    type: str
  source_files:
    description:
      - The source folder as a dictionary from path to text. The action plugin fills it in from O(source).
    type: dict
  function:
    description: Name of the C function that is the program.
    type: str
    default: tproxy_splicer
  defines:
    description: Preprocessor definitions.
    type: dict
    default: {}
  compile_on:
    description:
      - Where to compile. V(controller) needs BCC on the controller, and none on the target.
      - A program with tables of BCC's own makes them while it is compiled, and needs root there.
    type: str
    choices: [target, controller]
    default: target
  compiled:
    description: What the controller's compiler answered. The action plugin fills it in for O(compile_on=controller).
    type: dict
  blob:
    description: Path on the controller of a prebuilt blob to load instead of a source, as C(make blob) writes it.
    type: str
  blob_content:
    description: The blob's text. The action plugin fills it in from O(blob).
    type: str
  priority:
    description:
      - The filter's priority, 1 to 65535; lower ones run first.
      - The splicer stands once on an interface. Another priority or handle moves it, without a moment unfiltered.
    type: int
    default: 10
  handle:
    description: The filter's handle within its priority.
    type: int
    default: 1
  policy:
    description:
      - What the splicer does on this interface with what no rule names.
      - Without this option a policy that is there stays, and a new interface gets the defaults.
    type: dict
    suboptions:
      default_action:
        description:
          - What becomes of packets that nothing else judges. Rules name TCP and UDP only, so this judges all else, such
            as ESP, GRE, OSPF, IGMP and VRRP.
          - A fragment has no port that could be trusted. With V(pass) it goes past rules that drop; where a rule
            splices, it is dropped.
        type: str
        choices: [drop, pass]
        default: drop
      allow_ssh:
        description:
          - Let TCP port 22 through to the addresses that M(netedge.tproxy.ifindex_ip) recorded for the interface, or to
            any address while none is recorded.
        type: bool
        default: true
      allow_echo:
        description: Let ICMP and ICMPv6 echo requests through.
        type: bool
        default: false
      accept:
        description:
          - How the splicer passes a packet that it does not splice. V(ok) ends the hook, V(unspec) lets later filters
            judge it too.
        type: str
        choices: [ok, unspec]
        default: ok
      management:
        description: Who may always reach this host, before any rule is asked.
        type: list
        elements: dict
        default: []
        suboptions:
          source:
            description: Source prefix or address. Required.
            type: str
          protocol:
            description: V(tcp) or V(udp).
            type: str
            default: tcp
          port:
            description: Destination port, 1 to 65535. Required.
            type: str
  force:
    description:
      - Attach although preflight has an error, for example because a new SSH connection of whoever runs this would be
        dropped. The errors become warnings.
    type: bool
    default: false
notes:
  - The packet mark that the splicer sets is that of the interface's policy route, see M(netedge.tproxy.tproxy_route).
  - Maps of a program that is not the splicer are pinned by name in a folder of O(pin_dir) named after the function.
seealso:
  - module: netedge.tproxy.tproxy_rule
  - module: netedge.tproxy.ifindex_ip
  - module: netedge.tproxy.tproxy_route
"""

EXAMPLES = r"""
- name: The splicer on the LAN interface
  netedge.tproxy.tc_bpf_attach:
    interface: lan0
    policy:
      default_action: drop
      management:
        - {source: 10.99.0.0/24, port: 22}

- name: Another program of one's own
  netedge.tproxy.tc_bpf_attach:
    interface: lan0
    source: files/count_packets.c
    function: count_packets
    priority: 20

- name: Close the interface to SSH, unless that is how this controller comes in
  netedge.tproxy.tc_bpf_attach:
    interface: wan0
    policy:
      allow_ssh: false
    confirm_timeout: 60

- name: Take the splicer away
  netedge.tproxy.tc_bpf_attach:
    interface: lan0
    state: absent
"""

RETURN = r"""
attachment:
  description: What is attached, or would be; null for O(state=absent).
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
      description: The hook.
      type: str
    priority:
      description: The filter's priority.
      type: int
    handle:
      description: The filter's handle.
      type: int
    program_id:
      description: The kernel's id of the program; null where check mode attached nothing.
      type: int
    tag:
      description: The kernel's tag of the program; null as above. Not comparable between kernels.
      type: str
    name:
      description: The filter's name, function and identity.
      type: str
  sample:
    interface: lan0
    ifindex: 3
    direction: ingress
    priority: 10
    handle: 1
    program_id: 117
    tag: 764d8b06d6c68d49
    name: tproxy_splicer:c6ec167ecaa3
program:
  description: What was asked for; null for O(state=absent).
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
      description: How many instructions the program has; null when it ran already and needed no compilation.
      type: int
    compiled:
      description: Whether this run compiled it.
      type: bool
policy:
  description: The interface's policy after the run, with the mark that it sets; null for other programs.
  returned: success
  type: dict
  sample:
    default_action: drop
    allow_ssh: true
    allow_echo: false
    accept: ok
    management: []
    mark: "0x10000000/0x10000000"
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

from ..module_utils._argspec import tc_bpf_attach
from ..module_utils._attach import attach
from ..module_utils._runner import run_change


def main() -> None:
    """Run the module."""
    run_change(tc_bpf_attach(), attach)


if __name__ == "__main__":
    main()
