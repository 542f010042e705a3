# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Drift codes: differences between the state that a run left and the state of the kernel. Pure.

DRIFT has each code once, with its severity, its meaning and the module that repairs it. docs/reference/findings.md has
the table for operators.
"""

from __future__ import annotations

from typing import NamedTuple

from ..model.prefix import format_address

ATTACH = "run tc_bpf_attach for it again"
RULES = "run tproxy_rule again"
ROUTE = "run tproxy_route for it again"
RECORD = "run ifindex_ip again"


class About(NamedTuple):
    """What a word means: `found` and `remedy` for a person; {interface} and {who} are filled in."""

    severity: str
    found: str
    remedy: str


DRIFT = {
    "no_clsact": About(
        "error",
        "{interface} has a policy, but neither filter nor clsact qdisc",
        f"{ATTACH}; until then the interface is unfiltered",
    ),
    "no_filter": About(
        "error",
        "{interface} has a policy but no filter of ours",
        f"{ATTACH}; until then the interface is unfiltered",
    ),
    "other_filter": About("error", "{who} stands on {interface} where ours did", f"{ATTACH}, which puts ours back"),
    "other_program": About("error", "the filter on {interface} runs another program than its name says", ATTACH),
    "other_maps": About(
        "error",
        "the filter on {interface} uses maps that are pinned no more",
        f"{ATTACH}: it loads the program on the maps that are pinned",
    ),
    "older_release": About(
        "warning", "{interface} runs the program of an older release, by what that one was told", ATTACH
    ),
    "interface_closed": About(
        "error",
        "{interface} lets in SSH and management only: its saved state could not be put back, and that says fail_closed",
        "run tc_bpf_attach for it, or mend the saved state and run `tproxy-splicer restore`",
    ),
    "filter_ahead": About(
        "warning",
        "{who} on {interface} runs before ours and may end the chain",
        "let it pass packets with TC_ACT_UNSPEC, or move it behind ours",
    ),
    "tcx_ahead": About(
        "warning",
        "{who} on {interface} runs before ours and may end the chain",
        "let it pass packets with TCX_NEXT, or detach it",
    ),
    "xdp_ahead": About(
        "warning",
        "{who} on {interface} runs before ours and may end the chain",
        "let it pass (XDP_PASS) what ours shall judge; what it drops, redirects or sends is gone",
    ),
    "no_policy": About("error", "{interface} has our filter but no policy: it lets in SSH and what rules pass", ATTACH),
    "policy_damaged": About("error", "the policy of {interface} is not as we write policies", ATTACH),
    "policy_stale": About("note", "a policy is left of {who}, which is no more", "run tc_bpf_attach for any interface"),
    "addresses_differ": About("warning", "the addresses recorded for {interface} are not its own ({who})", RECORD),
    "addresses_stale": About("note", "addresses are recorded for {who}, which is no more", RECORD),
    "no_route": About("warning", "no policy route delivers what {interface} splices ({who})", ROUTE),
    "no_local_route": About("error", "the policy route of {interface} leads to an empty table ({who})", ROUTE),
    "image_damaged": About("error", "the rules in force were edited by hand: {who}", RULES),
    "change_unfinished": About(
        "warning",
        "a run was killed while it changed the rules in force: they may be neither those before nor those asked for",
        f"{RULES}: it compiles them anew; the helper does so when it is asked for the next rule",
    ),
    "image_stale": About(
        "warning",
        "rules are bound to interfaces that have another index now, or none",
        "run tc_bpf_attach or tproxy_rule again, or let `tproxy-splicer watch` do it",
    ),
    "pin_missing": About("error", "{who} is not pinned", "run tc_bpf_attach again: it makes anew what is missing"),
    "state_damaged": About(
        "error",
        "no boot can put back what was saved: {who}",
        "run tproxy_state, which saves what is in force",
    ),
    "state_stale": About(
        "warning",
        "what is saved is not what is in force: {who}",
        "run tproxy_state to save what is in force, or `tproxy-splicer restore` to go back to what is saved",
    ),
    "move_unfinished": About("warning", "a run was killed while it moved programs to a bigger image", RULES),
}


class Hook(NamedTuple):
    """What is on the hook of an interface.

    `stranger` names what stands at our priority and handle and is not ours, "" when nothing does. The next are those
    of our filter: whether there is one, whether it runs the program that its name says, on the maps pinned now; whether
    it is of an older release, on maps of its own, or is the one that closes an interface for want of a program.
    """

    has_clsact: bool = True
    foreign: str = ""
    has_filter: bool = True
    runs_its_program: bool = True
    is_bound: bool = True
    is_older: bool = False
    is_fail_closed: bool = False
    ahead: tuple = ()


class Ahead(NamedTuple):
    """A program that sees an interface's packets before ours: `word` is one of DRIFT, `who` names it."""

    word: str
    who: str


class Route(NamedTuple):
    """The policy route of an interface in one family: whether the rule is there, and the route that it leads to."""

    family: str
    has_rule: bool
    has_local: bool


def hook_drift(hook: Hook, policy) -> list:
    """Return [(word, who)] of a hook and the Policy of its interface, None when there is none."""
    found = [tuple(each) for each in hook.ahead]
    if hook.is_fail_closed or hook.is_older:
        return [*found, ("interface_closed" if hook.is_fail_closed else "older_release", "")]
    if policy is not None and not hook.has_filter:
        word = "other_filter" if hook.foreign else "no_filter" if hook.has_clsact else "no_clsact"
        found.append((word, hook.foreign))
    if hook.has_filter and policy is None:
        found.append(("no_policy", ""))
    if hook.has_filter and not hook.is_bound:
        found.append(("other_maps", ""))
    elif hook.has_filter and not hook.runs_its_program:
        found.append(("other_program", ""))
    if policy is not None and policy.damaged:
        found.append(("policy_damaged", ""))
    return found


def address_drift(recorded: tuple, there: tuple) -> list:
    """Return [(word, who)] of the addresses recorded and those that there are, each as 16 bytes."""
    gone = [f"-{format_address(address)}" for address in recorded if address not in there]
    new = [f"+{format_address(address)}" for address in there if address not in recorded]
    return [("addresses_differ", " ".join(gone + new))] if gone or new else []


def route_drift(routes: list[Route], intercepts: bool) -> list:
    """Return [(word, who)] of an interface's routes; `intercepts` says whether a rule splices there.

    Without one nobody needs a route, and nobody can say whether there ever was one; but half a route was a whole one.
    """
    missing = [route.family for route in routes if not route.has_rule]
    found = []
    if missing and (intercepts or len(missing) < len(routes)):
        found.append(("no_route", " ".join(missing)))
    unled = [route.family for route in routes if route.has_rule and not route.has_local]
    return found + ([("no_local_route", " ".join(unled))] if unled else [])
