# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Preflight of the runs that change something: what each of them looks at before it does, and whom it asks for.

Check mode looks at the same. Nothing is changed here.
"""

from __future__ import annotations

from ..constants import FUNCTION
from ..program.select import Wanted
from ..resources.attachments import runs
from ..resources.hook import HookContext
from ..resources.interfaces import AddressTable, PolicyTable
from ..resources.pins import Pins
from ..resources.programs import Programs
from ..resources.reconcile import Changes
from ..resources.rules import RuleTable
from ..system.system import System
from .collect import ahead, interface, machine, with_listeners, with_networks
from .dry_run import affected, questions, rehearse
from .facts import Facts
from .findings import findings


def findings_of_hook(context: HookContext, link, wanted: Wanted, policies: dict, changed: bool, rebound) -> list:
    """Return the findings about one hook, and about those whom what is to come would cut off.

    `rebound` has the words of the image in force and of that to come, None where it stays.
    """
    options, system = context.options, context.system
    facts = machine(system, options["pin_dir"])
    filters = context.netlink.filters(link.ifindex, options["direction"])
    if context.is_splicer:  # ours at another priority does not stay
        filters = [entry for entry in filters if not runs(entry, FUNCTION)]
    before = ahead(system, link, options["direction"], filters, options["priority"])
    facts = facts._replace(drift=tuple((link.name, *each) for each in before))
    if not context.is_splicer:
        return findings(facts)
    looked_at = interface(system, link)
    rules = list(context.rule_table().observe().values()) if changed else []
    intercepts = tuple(rule for rule in rules if rule.action == "tproxy")
    recorded = _recorded(context.system.bpf, context.pins)
    networks = with_networks(context.netlink, [link], [looked_at], recorded) if intercepts else (looked_at,)
    facts = facts._replace(interfaces=networks, intercepts=intercepts)
    return findings(facts) + (_cut_by_program(context, link, wanted, policies, rebound) if changed else [])


def _recorded(bpf, pins: Pins) -> dict:
    """Return {ifindex: addresses} of the interfaces that have a policy."""
    cache = AddressTable(bpf, pins).observe()
    return {key: cache[key].addresses if key in cache else () for key in PolicyTable(bpf, pins).observe()}


def _cut_by_program(context: HookContext, link, wanted: Wanted, policies: dict, rebound) -> list:
    blob = wanted.blob or context.programs.blob()
    if blob is None:
        return []
    asked = questions(context.system, context.netlink, {link.ifindex: policies[link.ifindex]})
    if rebound is not None:
        others = {ifindex: policy for ifindex, policy in policies.items() if ifindex != link.ifindex}
        asked += affected(questions(context.system, context.netlink, others), rebound.before, rebound.words)
    return rehearse(context.system, context.pins, blob, asked, policies=policies, image=rebound and rebound.words)


def findings_of_rules(system: System, pins: Pins, table: RuleTable, changes: Changes, words) -> list:
    """Return the findings about the rules that come or change, and about those whom the new image would cut off."""
    intercepts = [rule for rule in changes.puts.values() if rule.action == "tproxy"]
    blob, policies = Programs(system.bpf, pins).blob(), PolicyTable(system.bpf, pins).observe()
    if not intercepts and blob is None:
        return []
    with system.netlink() as netlink:
        found = (
            findings(_facts_of_rules(system, netlink, intercepts, _recorded(system.bpf, pins))) if intercepts else []
        )
        if blob is None or not pins.complete:
            return found
        asked = affected(questions(system, netlink, policies), table.words(), words)
        return found + rehearse(system, pins, blob, asked, image=words)


def _facts_of_rules(system: System, netlink, intercepts: list, recorded: dict) -> Facts:
    """Return the facts about rules, and about the interfaces that they name or that the program runs on."""
    named = {name for rule in intercepts for name in rule.interfaces}
    links = [link for link in netlink.interfaces() if link.name in named or link.ifindex in recorded]
    facts = with_listeners(Facts(system.sysctl.kernel_release()), system, intercepts)
    looked_at = [interface(system, link)._replace(packet_sockets=0) for link in links]
    return facts._replace(interfaces=with_networks(netlink, links, looked_at, recorded))
