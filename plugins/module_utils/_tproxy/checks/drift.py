# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Drift codes: differences between the state that a run left and the state of the kernel. Pure.

DRIFT lists each code with its severity, its meaning and the module that repairs it. docs/reference/findings.md has the
table for operators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..model.policy import InterfaceAddresses, Policy
from ..model.prefix import format_address
from ..resources.current_state import DriftEntry
from ..resources.hooks import HookProgram
from ..system.netlink.messages import Link

ATTACH = "run tc_bpf_attach for it again"
RULES = "run tproxy_rule again"
ROUTE = "run tproxy_route for it again"
RECORD = "run ifindex_ip again"


class About(NamedTuple):
    """The severity of a code, and its two sentences for the operator. They name {interface} and {detail}."""

    severity: str
    found: str
    remedy: str


DRIFT = {
    "no_clsact": About(
        "error",
        "{interface} has a policy, but neither a program of this collection nor a clsact qdisc",
        f"{ATTACH}; until then the interface is unfiltered",
    ),
    "no_filter": About(
        "error",
        "{interface} has a policy, but no program of this collection",
        f"{ATTACH}; until then the interface is unfiltered",
    ),
    "no_tracker": About(
        "warning",
        "the tracker of {interface} is not on its egress hook ({detail})",
        f"{ATTACH}; until then answers to flows that begin inside get the default action",
    ),
    "other_filter": About(
        "error", "{detail} on {interface} has the place of our filter", f"{ATTACH}, which restores our filter"
    ),
    "other_program": About(
        "error", "the hook of {interface} runs another program than the one that its name states", ATTACH
    ),
    "other_maps": About(
        "error",
        "the program on {interface} uses maps that are no longer pinned",
        f"{ATTACH}, which loads the program on the pinned maps",
    ),
    "older_release": About(
        "warning", "{interface} still runs the program of an older release with its old rules", ATTACH
    ),
    "interface_closed": About(
        "error",
        "{interface} accepts SSH and management entries only, because the boot could not restore the saved state and"
        " that state has fail_closed",
        "run tc_bpf_attach for it, or repair the saved state and run `tproxy-splicer restore`",
    ),
    "filter_ahead": About(
        "warning",
        "{detail} on {interface} runs before our program and may end the chain",
        "make it return TC_ACT_UNSPEC, or move it behind our program",
    ),
    "tcx_ahead": About(
        "warning",
        "{detail} on {interface} runs before our program and may end the chain",
        "make it return TCX_NEXT, detach it, or run tc_bpf_attach with hook: tcx and before:",
    ),
    "filter_overtaken": About(
        "warning",
        "{detail} on {interface} runs behind our TCX program and sees no packet that it passes",
        "run tc_bpf_attach with hook: clsact, or with accept: unspec in the policy",
    ),
    "attached_twice": About(
        "warning", "{interface} has our program more than once ({detail}): a run was killed while it moved it", ATTACH
    ),
    "xdp_ahead": About(
        "warning",
        "{detail} on {interface} runs before our program and may end the chain",
        "make it return XDP_PASS for packets that our program must check; it never sees packets that XDP drops,"
        " redirects or sends",
    ),
    "no_policy": About(
        "error", "{interface} has our program but no policy: it accepts SSH and flows matched by rules only", ATTACH
    ),
    "policy_damaged": About("error", "the policy of {interface} has invalid bytes", ATTACH),
    "policy_stale": About(
        "note", "a policy is left of {detail}, which does not exist any more", "run tc_bpf_attach for any interface"
    ),
    "addresses_differ": About(
        "warning", "the recorded addresses of {interface} differ from those that it has ({detail})", RECORD
    ),
    "addresses_stale": About("note", "addresses are recorded for {detail}, which does not exist any more", RECORD),
    "interface_renamed": About(
        "warning",
        "{detail}: program and policy stay, but policy routes, rules and the saved state have the old name",
        "return to the old name (`ip link set`), or run tproxy_route, ifindex_ip and tproxy_state for the new one",
    ),
    "no_route": About("warning", "no policy route delivers spliced packets of {interface} ({detail})", ROUTE),
    "no_local_route": About("error", "the policy route of {interface} leads to an empty table ({detail})", ROUTE),
    "image_damaged": About("error", "another program than this collection edited the rules in force: {detail}", RULES),
    "change_unfinished": About(
        "warning",
        "a run was killed while it changed the rules in force: they may be neither the old nor the new ones",
        f"{RULES}, which compiles them again; the helper does so at its next request",
    ),
    "image_stale": About(
        "warning",
        "rules are compiled for interfaces that have another index now, or that do not exist any more",
        "run tc_bpf_attach or tproxy_rule again, or run `tproxy-splicer watch`",
    ),
    "pin_missing": About(
        "error",
        "{detail} is not pinned",
        "run tc_bpf_attach or any other module again, which pins the map again or creates it",
    ),
    "state_damaged": About(
        "error",
        "a boot could not restore the saved state: {detail}",
        "run tproxy_state, which saves the state in force",
    ),
    "state_not_restored": About(
        "error",
        "{detail} is in the saved state and has no program of this collection: the restoration after it came again was"
        " refused, or nothing restores it",
        "see `journalctl -u tproxy-splicer-watch`, then run `tproxy-splicer restore`; until then the interface is"
        " unfiltered",
    ),
    "state_stale": About(
        "warning",
        "the saved state differs from the state in force: {detail}",
        "run tproxy_state to save the state in force, or `tproxy-splicer restore` to return to the saved state",
    ),
    "change_unguarded": About(
        "error",
        "the watchdog of a pending change is gone: {detail}",
        "confirm the change or roll it back (tproxy_confirm); after its deadline the next run, call or watcher does so",
    ),
    "change_overdue": About(
        "error",
        "a change is out of force but not rolled back: {detail}",
        "run `tproxy-splicer rollback`; the next run, the helper's next call and the watcher do so too",
    ),
    "move_unfinished": About("warning", "a run was killed while it moved programs to a larger image", RULES),
}


class InterfaceStatus(NamedTuple):
    """The state of one interface that has our program or a policy.

    `ours` is our program on its hook, None without one, and `copies` how often it is there. `slot` is the slot of the
    policy, and so of its counters. `recorded` are the recorded addresses, `addresses` those of the kernel, each as 16
    bytes. `ahead` names the programs that see packets before ours, `behind` the filters that our TCX program overtakes.

    `foreign` names the foreign filter that has our priority and handle, or is "". `has_hook` is false where a program
    needs a clsact qdisc and there is none. `runs_its_program` means that our program is the one that its name states,
    and `is_bound` that it uses the pinned maps. `is_older` means that it is of an older release and uses maps of its
    own. `lost_tracker` names the tracker that the policy asks for and that is not there, or is "".
    `is_fail_closed` means that it closes the interface because no other could be loaded.
    """

    link: Link
    ours: HookProgram | None
    policy: Policy | None
    slot: int | None
    recorded: InterfaceAddresses | None
    addresses: tuple[bytes, ...]
    ahead: tuple[DriftEntry, ...]
    behind: tuple[DriftEntry, ...] = ()
    copies: int = 1
    foreign: str = ""
    has_hook: bool = True
    runs_its_program: bool = True
    is_bound: bool = True
    is_older: bool = False
    is_fail_closed: bool = False
    lost_tracker: str = ""

    @property
    def enforces(self) -> bool:
        """Return whether the interface enforces our rules, or those of an older release."""
        has_ours = self.ours is not None and self.policy is not None and self.is_bound and not self.is_fail_closed
        return self.is_older or has_ours

    def drift(self) -> list[DriftEntry]:
        """Return the drift of the hook and of the recorded addresses."""
        return [*self.ahead, *self.behind, *_hook_drift(self), *_address_drift(self)]


def _hook_drift(status: InterfaceStatus) -> Iterator[DriftEntry]:
    has_program, policy = status.ours is not None, status.policy
    if status.is_fail_closed or status.is_older:
        yield DriftEntry("interface_closed" if status.is_fail_closed else "older_release", "")
        return
    if policy is not None and not has_program:
        code = "other_filter" if status.foreign else "no_filter" if status.has_hook else "no_clsact"
        yield DriftEntry(code, status.foreign)
    if status.copies > 1:
        yield DriftEntry("attached_twice", f"{status.copies} times")
    if has_program and policy is None:
        yield DriftEntry("no_policy", "")
    if has_program and not status.is_bound:
        yield DriftEntry("other_maps", "")
    elif has_program and not status.runs_its_program:
        yield DriftEntry("other_program", "")
    if status.lost_tracker:
        yield DriftEntry("no_tracker", status.lost_tracker)
    if policy is not None and policy.damaged:
        yield DriftEntry("policy_damaged", "")


def _address_drift(status: InterfaceStatus) -> Iterator[DriftEntry]:
    if status.recorded is None:
        return
    recorded, present = status.recorded.addresses, status.addresses
    gone = [f"-{format_address(address)}" for address in recorded if address not in present]
    new = [f"+{format_address(address)}" for address in present if address not in recorded]
    if gone or new:
        yield DriftEntry("addresses_differ", " ".join(gone + new))


class RouteStatus(NamedTuple):
    """The policy route of an interface in one address family: its policy rule, and the local route in its table."""

    family: str
    has_rule: bool
    has_local: bool


def route_drift(routes: Sequence[RouteStatus], intercepts: bool) -> list[DriftEntry]:
    """Return the drift of the policy routes of an interface. `intercepts` means that a rule splices packets there.

    Without such a rule the interface needs no policy route, so missing ones are no drift. If only one family has a
    policy rule, the other one was lost.
    """
    missing = [route.family for route in routes if not route.has_rule]
    found = []
    if missing and (intercepts or len(missing) < len(routes)):
        found.append(DriftEntry("no_route", " ".join(missing)))
    without_local = [route.family for route in routes if route.has_rule and not route.has_local]
    if without_local:
        found.append(DriftEntry("no_local_route", " ".join(without_local)))
    return found
