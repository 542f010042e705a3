# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Checks that tc_bpf_attach, tproxy_rule and tproxy_router run before a change. Check mode runs the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..errors import Unsupported
from ..model.policy import Policy
from ..model.rule import Rule
from ..resources.current_state import DriftEntry
from ..resources.hooks import ANYWHERE, TCX, Hook, HookProgram, programs_on, runs
from ..resources.host_state import RulePlan, TransactionPlan
from ..resources.trackers import untracked
from ..resources.transaction import Transaction
from ..system.netlink.messages import Link
from .collect import (
    WaitingSockets,
    ahead,
    intercepts_of,
    interface,
    machine,
    overtaken,
    with_listeners,
    with_networks,
    with_routing,
)
from .dry_run import affected, dry_run, probes_of
from .facts import DriftFact, Facts, Interface
from .findings import Finding, findings, format_finding, path_unknown, vrf_unsupported
from .session_path import SessionPath, session_path


def findings_of_hook(transaction: Transaction, link: Link, hook: Hook, planned: TransactionPlan) -> list[Finding]:
    """Return the findings about one hook, and about connections that the planned change would cut off.

    Raises Unsupported for a VRF.
    """
    if transaction.is_splicer:
        _refuse_vrf([link])
    system, current = transaction.system, transaction.current
    facts = machine(system, transaction.pin_dir)
    neighbours = _neighbours(transaction, link, hook, planned)
    facts = facts._replace(drift=tuple(DriftFact(link.name, *each) for each in neighbours))
    if not transaction.is_splicer:
        return findings(facts)
    policy = planned.policies.after.get(link.ifindex) if planned.policies else None
    looked_at = interface(system, link)._replace(
        untracked=untracked(transaction.netlink, current.programs, hook, policy)
    )
    rules = current.rules.rules.values() if planned.changed else []
    intercepts = intercepts_of(rules)
    networks: tuple[Interface, ...] = (looked_at,)
    if intercepts:
        networks = with_networks(transaction.netlink, [link], [looked_at], current.policies.entries)
    facts = facts._replace(interfaces=networks, intercepts=intercepts)
    return findings(facts) + (_cut_by_program(transaction, link, planned) if planned.changed else [])


def _refuse_vrf(links: Iterable[Link]) -> None:
    """Raise Unsupported for VRF devices and interfaces of a VRF, which `force` does not make work."""
    found = [format_finding(vrf_unsupported(link.name)) for link in links if link.vrf]
    if found:
        raise Unsupported(f"{'; '.join(found)}. Nothing was changed")


def _neighbours(transaction: Transaction, link: Link, hook: Hook, planned: TransactionPlan) -> tuple[DriftEntry, ...]:
    """Return the programs that will see packets before ours, and the filters that ours will overtake."""
    bpf, netlink, function = transaction.system.bpf, transaction.netlink, transaction.function
    entries = programs_on(bpf, netlink, link.ifindex, hook.direction, function)
    # Our own program at another place is removed, so only foreign ones are neighbours.
    others = [entry for entry in entries if not runs(entry, function)]
    if hook.kind != TCX:
        return ahead(
            link, hook.direction, [each for each in others if each.kind == TCX or each.priority < hook.priority]
        )
    policy = planned.policies.after.get(link.ifindex) if planned.policies else None
    behind = () if policy is None or policy.accept == "unspec" else overtaken(others)
    return ahead(link, hook.direction, _tcx_before(transaction, hook, planned, entries)) + behind


def _tcx_before(
    transaction: Transaction, hook: Hook, planned: TransactionPlan, entries: list[HookProgram]
) -> list[HookProgram]:
    """Return the TCX programs that will see packets before ours: those before it now, or before its new place."""
    order = planned.desired.orders.get(hook, ANYWHERE)
    chain = [entry for entry in entries if entry.kind == TCX]
    point = transaction.point(hook)
    ours, others = point.program(), [entry for entry in chain if not runs(entry, transaction.function)]
    if ours in chain and not point.is_misplaced(order):
        return [entry for entry in chain[: chain.index(ours)] if entry in others]
    return others[: order.place_in(others)]


def _cut_by_program(transaction: Transaction, link: Link, planned: TransactionPlan) -> list[Finding]:
    system, netlink, wanted = transaction.system, transaction.netlink, planned.desired.program
    blob = (wanted and wanted.blob) or transaction.current.blob
    if blob is None or planned.policies is None:
        return []
    policies: Mapping[int, Policy] = planned.policies.after
    path = session_path(system, netlink)
    asked = probes_of(netlink, {link.ifindex: policies[link.ifindex]}, path)
    image = None
    if planned.rules is not None and planned.rules.compiled is not None:
        image = planned.rules.compiled.words
        others = {ifindex: policy for ifindex, policy in policies.items() if ifindex != link.ifindex}
        asked += affected(probes_of(netlink, others, path), planned.rules.snapshot.words, image)
    return _unknown(path, [link]) + dry_run(system, transaction.pins, blob, asked, policies=policies, image=image)


def _unknown(path: SessionPath, links: Iterable[Link]) -> list[Finding]:
    """Return a finding for each interface that may carry a tunnel whose outer packets are not known."""
    names = [link.name for link in links if not link.loopback]
    return [path_unknown(name, *lost) for lost in path.lost for name in names if name != lost.name]


def findings_of_router(transaction: Transaction, hooks: Mapping[Hook, Link], planned: TransactionPlan) -> list[Finding]:
    """Return the findings about all hooks of a router, about its rules, and about connections that would be cut off.

    Raises Unsupported for a VRF.
    """
    system, netlink = transaction.system, transaction.netlink
    if planned.rules is None or planned.policies is None or planned.addresses is None:
        raise AssertionError("the plan of a router has no rules, no policies or no addresses")
    _refuse_vrf(hooks.values())
    facts = machine(system, transaction.pin_dir)
    before = []
    for hook, link in hooks.items():
        before += [DriftFact(link.name, *each) for each in _neighbours(transaction, link, hook, planned)]
    policies = planned.policies.after
    links = [link for link in transaction.current.links if link.ifindex in policies]
    places = {each.hook.ifindex: each.hook for each in transaction.current.attachments}
    places.update({hook.ifindex: hook for hook in hooks})
    looked_at = []
    for link in links:
        place, policy = places.get(link.ifindex), policies[link.ifindex]
        obstacle = None if place is None else untracked(netlink, transaction.current.programs, place, policy)
        looked_at.append(interface(system, link, policy.mark)._replace(untracked=obstacle))
    facts = with_routing(facts._replace(drift=tuple(before)), system, netlink)
    if not planned.changed:
        return findings(facts._replace(interfaces=tuple(looked_at)))
    facts = with_listeners(facts, system, planned.rules.plan.changes.puts.values(), WaitingSockets(system.sockets))
    intercepts = intercepts_of(planned.rules.plan.after.values())
    networks = with_networks(netlink, links, looked_at, policies) if intercepts else tuple(looked_at)
    facts = facts._replace(interfaces=networks, intercepts=intercepts)
    return findings(facts) + _cut_by_router(transaction, planned)


def _cut_by_router(transaction: Transaction, planned: TransactionPlan) -> list[Finding]:
    """Return the findings about connections that would be cut off. An interface that stays is asked about new rules."""
    system, netlink, wanted = transaction.system, transaction.netlink, planned.desired.program
    blob = (wanted and wanted.blob) or transaction.current.blob
    if blob is None or planned.policies is None or planned.rules is None or planned.addresses is None:
        return []
    policies, compiled = planned.policies.after, planned.rules.compiled
    image = None if compiled is None else compiled.words
    changed = {hook.ifindex for hook in planned.puts} | set(planned.policies.changes.puts)
    changed |= {*planned.addresses.changes.puts, *planned.addresses.changes.deletes} & set(policies)
    path = session_path(system, netlink)
    links = [link for link in transaction.current.links if link.ifindex in changed]
    asked = probes_of(netlink, {key: policy for key, policy in policies.items() if key in changed}, path)
    if image is not None:
        others = {key: policy for key, policy in policies.items() if key not in changed}
        asked += affected(probes_of(netlink, others, path), planned.rules.snapshot.words, image)
    addresses = planned.addresses.after
    return _unknown(path, links) + dry_run(
        system, transaction.pins, blob, asked, policies=policies, image=image, addresses=addresses
    )


def findings_of_rules(transaction: Transaction, planned: RulePlan) -> list[Finding]:
    """Return the findings about new and changed rules, and about connections that the new image would cut off."""
    system, current = transaction.system, transaction.current
    intercepts = intercepts_of(planned.plan.changes.puts.values())
    if planned.compiled is None or not (intercepts or current.blob):
        return []
    found = findings(_facts_of_rules(transaction, intercepts)) if intercepts else []
    if current.blob is None or not transaction.pins.complete:
        return found
    asked = probes_of(transaction.netlink, current.policies.entries, session_path(system, transaction.netlink))
    asked = affected(asked, planned.snapshot.words, planned.compiled.words)
    return found + dry_run(system, transaction.pins, current.blob, asked, image=planned.compiled.words)


def _facts_of_rules(transaction: Transaction, intercepts: Iterable[Rule]) -> Facts:
    """Return the facts about rules, and about the interfaces that they name or that run the program."""
    system, policies = transaction.system, transaction.current.policies.entries
    named = {name for rule in intercepts for name in rule.interfaces}
    links = [link for link in transaction.current.links if link.name in named or link.ifindex in policies]
    facts = with_listeners(Facts(system.sysctl.kernel_release()), system, intercepts, WaitingSockets(system.sockets))
    looked_at = [interface(system, link)._replace(packet_sockets=0) for link in links]
    return facts._replace(interfaces=with_networks(transaction.netlink, links, looked_at, policies))
