# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Whether rules are in force, which the maps alone cannot tell.

An interface enforces the rules of these pins if its ingress hook has our program, the program reads the pinned maps,
and the interface has a policy. A policy alone stays behind when another program deletes the qdisc. The program that
closes an interface has no rules.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from ..constants import FUNCTION
from ..model.rule import Rule
from ..system.system import Netlink, System
from .attachments import Attachment
from .hooks import HookProgram, filters_on, is_fail_closed, runs, tcx_chain
from .interfaces import PolicyTable
from .pins import Pins
from .programs import Programs

ANY = "an interface"
REMEMBERED_NS = 10**9


class Waiting(NamedTuple):
    """The names of rules that are not in force until an interface has the program, None for any interface."""

    interface: str | None
    rules: tuple[str, ...]


def waits_for(rule: Rule, enforcing: Collection[str]) -> list[str]:
    """Return the interfaces without the program that a rule waits for, or [ANY] if no interface at all has it.

    A named interface that does not exist may appear later.
    """
    if not rule.interfaces:
        return [] if enforcing else [ANY]
    return [name for name in rule.interfaces if name not in enforcing]


def waiting_rules(rules: Iterable[Rule], enforcing: Collection[str]) -> tuple[Waiting, ...]:
    """Return the rules that are not in force, by the interface that they wait for."""
    found: dict[str, list[str]] = {}
    for rule in rules:
        for name in waits_for(rule, enforcing):
            found.setdefault(name, []).append(rule.name or str(rule.identity))
    return tuple(Waiting(None if name == ANY else name, tuple(names)) for name, names in found.items())


def enforcing_attachments(attachments: Iterable[Attachment], programs: Programs) -> list[Attachment]:
    """Return the attachments that judge packets by the rules of these pins."""
    return [each for each in attachments if each.hook.direction == "ingress" and _reads_rules(each.program, programs)]


def _reads_rules(entry: HookProgram, programs: Programs) -> bool:
    """Return whether a program of ours reads the rules of these pins."""
    return not is_fail_closed(entry) and programs.is_bound(entry.program_id)


def enforcing_interfaces(
    rules: Collection[Rule], system: System, netlink: Callable[[], Netlink], pins: Pins
) -> set[str]:
    """Return the interfaces that enforce the rules of these pins: those that `rules` name, for waiting_rules().

    If a rule names none, the result is not empty while an interface enforces rules: it is ANY where that can be told
    without a listing of all. To open netlink costs more than all else here, and TCX programs are found without it.
    """
    enforces = _enforcement_test(netlink, pins, system)
    indexes = {name: system.ifindex_of(name) for rule in rules for name in rule.interfaces}
    named = {name for name, ifindex in indexes.items() if ifindex is not None and enforces(ifindex)}
    if named or all(rule.interfaces for rule in rules) or not pins.complete:
        return named
    programs = Programs(system.bpf, pins)
    for ifindex in PolicyTable(system.bpf, pins).load().entries:
        if _is_enforced_by(tcx_chain(system.bpf, ifindex, "ingress"), programs):
            return {ANY}
    return {link.name for link in netlink().interfaces() if enforces(link.ifindex)}


class AttachedInterfaces:
    """The interfaces that enforce our rules, for calls in quick succession.

    An interface that was seen to enforce them is believed to do so for REMEMBERED_NS: to ask costs more than the rest
    of a call. One that was seen not to is asked again by each call.
    """

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}  # index of an interface: when it was seen to enforce rules

    def waiting_for(self, rules: Collection[Rule], pins: Pins, system: System) -> list[str]:
        """Return what waits_for() returns, for all rules together."""
        named = {name: system.ifindex_of(name) for rule in rules for name in rule.interfaces}
        for_all = any(not rule.interfaces for rule in rules)
        recent = self._recent(system)
        if set(named.values()) <= recent and (recent or not for_all):
            return []
        with system.netlink() as netlink:
            enforces = self._noted(_enforcement_test(lambda: netlink, pins, system), system)
            without = [name for name, ifindex in named.items() if ifindex is None or not enforces(ifindex)]
            indexes = (*self._seen, *(link.ifindex for link in netlink.interfaces()))
            if not without and for_all and not any(enforces(ifindex) for ifindex in indexes):
                return [ANY]
        return without

    def not_enforced_reason(self, rules: Collection[Rule], pins: Pins, system: System) -> str:
        """Return until when stored rules match no packet, or ""."""
        names = self.waiting_for(rules, pins, system)
        return f"stored, not in force until {', '.join(names)} has the program" if names else ""

    def _recent(self, system: System) -> set[int]:
        """Return the indexes of the interfaces that were seen to enforce rules a moment ago."""
        limit = system.background.monotonic_ns() - REMEMBERED_NS
        return {ifindex for ifindex, when in self._seen.items() if when > limit}

    def _noted(self, enforces: Callable[[int], bool], system: System) -> Callable[[int], bool]:
        """Return the same function; it notes what it sees."""

        def noted(ifindex: int) -> bool:
            self._seen.pop(ifindex, None)
            if enforces(ifindex):
                self._seen[ifindex] = system.background.monotonic_ns()
            return ifindex in self._seen

        return noted


def _is_enforced_by(entries: Iterable[HookProgram], programs: Programs) -> bool:
    """Return whether one of these programs enforces the rules of these pins, if its interface has a policy."""
    return any(runs(entry, FUNCTION) and _reads_rules(entry, programs) for entry in entries)


def _enforcement_test(netlink: Callable[[], Netlink], pins: Pins, system: System) -> Callable[[int], bool]:
    """Return a function that returns whether the interface of an index enforces the rules of these pins."""
    policies, programs = PolicyTable(system.bpf, pins), Programs(system.bpf, pins)
    are_pinned = pins.complete

    def enforces(ifindex: int) -> bool:
        if not (are_pinned and policies.has(ifindex)):
            return False
        if _is_enforced_by(tcx_chain(system.bpf, ifindex, "ingress"), programs):
            return True
        return _is_enforced_by(filters_on(netlink(), ifindex, "ingress"), programs)

    return enforces
