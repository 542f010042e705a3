# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What becomes of the reply to a flow that this host forwards: the verdict of the interface by which it enters.

That interface is the one to which the route of the destination leads. Policy routing by source or mark, and a reply
that takes another way, are not considered.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..checks.test_run import Trace, ask_program
from ..constants import FUNCTION
from ..model.flow import Flow
from ..model.policy import Policy
from ..model.prefix import format_number
from ..model.protocol import has_ports
from ..resources.hooks import programs_on, runs
from ..resources.operation import Answer
from ..system.netlink.messages import Link
from ..system.system import Netlink, System

FORWARDED = ("rule", "default", "session", "other")  # reasons of packets that the kernel may forward
RTN_UNICAST = 1  # include/uapi/linux/rtnetlink.h


def program_on(system: System, netlink: Netlink, link: Link) -> int | None:
    """Return the id of our program on an interface, None without one."""
    for entry in programs_on(system.bpf, netlink, link.ifindex, "ingress"):
        if runs(entry, FUNCTION) and entry.program_id is not None:
            return entry.program_id
    return None


def reply_to(
    flow: Flow, trace: Trace, system: System, netlink: Netlink, policies: Mapping[int, Policy]
) -> Answer | None:
    """Return interface, verdict and reason of the reply to a flow with this trace; None where there is none to ask for.

    The reason is "" on an interface without our program.
    """
    if trace.verdict == "drop" or trace.reason not in FORWARDED:
        return None
    route = netlink.route_to(format_number(flow.destination), "")
    link = next((each for each in netlink.interfaces() if route is not None and each.ifindex == route.oif), None)
    if route is None or link is None or route.type != RTN_UNICAST:
        return None
    program, policy = program_on(system, netlink, link), policies.get(link.ifindex, Policy())
    if policy.layer3:
        return None  # a test run has an Ethernet header
    if program is None:
        return {"interface": link.name, "verdict": "pass", "reason": ""}
    answer = Flow(flow.protocol, flow.destination, flow.port, flow.source, flow.source_port)
    found = ask_program(system.bpf, program, link.ifindex, answer)
    if found.reason == "default" and has_ports(flow.protocol) and policy.track == "all":
        found = found._replace(verdict="pass", reason="session")
    return {"interface": link.name, "verdict": found.verdict, "reason": found.reason}
