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
from ..resources.hook import Scene
from ..resources.interfaces import AddressTable, PolicyTable
from ..resources.pins import Pins
from ..resources.programs import Programs
from ..resources.reconcile import Changes
from ..resources.rules import RuleTable
from ..system.system import Doors
from .collect import ahead, interface, machine, with_listeners, with_networks
from .dry_run import questions, rehearse, touched
from .facts import Facts
from .findings import findings


def findings_of_hook(scene: Scene, link, wanted: Wanted, policies: dict, changed: bool, rebound) -> list:
    """Return the findings about one hook, and about those whom what is to come would cut off.

    `rebound` has the words of the image in force and of that to come, None where it stays.
    """
    options, doors = scene.options, scene.doors
    facts = machine(doors, options["pin_dir"])
    filters = scene.netlink.filters(link.ifindex, options["direction"])
    if scene.is_splicer:  # ours at another priority does not stay
        filters = [entry for entry in filters if not runs(entry, FUNCTION)]
    before = ahead(doors, link, options["direction"], filters, options["priority"])
    facts = facts._replace(drift=tuple((link.name, *each) for each in before))
    if not scene.is_splicer:
        return findings(facts)
    looked_at = interface(doors, link)
    rules = list(scene.rule_table().observe().values()) if changed else []
    intercepts = tuple(rule for rule in rules if rule.action == "tproxy")
    recorded = _recorded(scene.doors.bpf, scene.pins)
    networks = with_networks(scene.netlink, [link], [looked_at], recorded) if intercepts else (looked_at,)
    facts = facts._replace(interfaces=networks, intercepts=intercepts)
    return findings(facts) + (_cut_by_program(scene, link, wanted, policies, rebound) if changed else [])


def _recorded(bpf, pins: Pins) -> dict:
    """Return {ifindex: addresses} of the interfaces that have a policy."""
    known = AddressTable(bpf, pins).observe()
    return {key: known[key].addresses if key in known else () for key in PolicyTable(bpf, pins).observe()}


def _cut_by_program(scene: Scene, link, wanted: Wanted, policies: dict, rebound) -> list:
    blob = wanted.blob or scene.programs.blob()
    if blob is None:
        return []
    asked = questions(scene.doors, scene.netlink, {link.ifindex: policies[link.ifindex]})
    if rebound is not None:
        others = {ifindex: policy for ifindex, policy in policies.items() if ifindex != link.ifindex}
        asked += touched(questions(scene.doors, scene.netlink, others), rebound.before, rebound.words)
    return rehearse(scene.doors, scene.pins, blob, asked, policies=policies, image=rebound and rebound.words)


def findings_of_rules(doors: Doors, pins: Pins, table: RuleTable, changes: Changes, words) -> list:
    """Return the findings about the rules that come or change, and about those whom the new image would cut off."""
    intercepts = [rule for rule in changes.puts.values() if rule.action == "tproxy"]
    blob, policies = Programs(doors.bpf, pins).blob(), PolicyTable(doors.bpf, pins).observe()
    if not intercepts and blob is None:
        return []
    with doors.netlink() as netlink:
        found = findings(_facts_of_rules(doors, netlink, intercepts, _recorded(doors.bpf, pins))) if intercepts else []
        if blob is None or not pins.complete:
            return found
        asked = touched(questions(doors, netlink, policies), table.words(), words)
        return found + rehearse(doors, pins, blob, asked, image=words)


def _facts_of_rules(doors: Doors, netlink, intercepts: list, recorded: dict) -> Facts:
    """Return the facts about rules, and about the interfaces that they name or that the program runs on."""
    named = {name for rule in intercepts for name in rule.interfaces}
    links = [link for link in netlink.interfaces() if link.name in named or link.ifindex in recorded]
    facts = with_listeners(Facts(doors.sysctl.kernel_release()), doors, intercepts)
    looked_at = [interface(doors, link)._replace(packet_sockets=0) for link in links]
    return facts._replace(interfaces=with_networks(netlink, links, looked_at, recorded))
