# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The story of tc_bpf_attach: from a source to a filter that runs it.

1. What can be refused is refused before the first change: input, compilation, the verifier.
2. Rules for the interfaces of today, then policy, then filter: no packet meets the program before all that it asks is
   there.
3. A failure half way takes back what was done.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack

from ..checks.findings import enforce
from ..checks.preflight import findings_of_hook
from ..constants import FUNCTION
from ..errors import InvalidInput
from ..model.policy import Mark, Policy, masked_sources, policy_from_params
from ..program.select import Wanted, wanted_program
from ..resources.attachments import Hook
from ..resources.hook import HookContext, forget_gone, open_pins, put_filter, remove_filter, shown, state
from ..resources.interfaces import PolicyTable, links_by_name
from ..resources.lock import lock_for_change
from ..resources.migrate import drop_older_pins
from ..resources.pins import Pins
from ..resources.reconcile import reconcile, restore_table
from ..resources.routes import FAMILIES, is_ours
from ..resources.rule_changes import GroupRefresh, group_refresh
from ..system.system import System
from .detach import detach


def attach(options: Mapping, system: System, check: bool) -> dict:
    """Attach or detach one program on one hook. Returns what tc_bpf_attach returns."""
    given = _validated(options)
    present = options["state"] == "present"
    with ExitStack() as held:
        pending = held.enter_context(
            lock_for_change(system, options["pin_dir"], check, present, options.get("confirm_token"))
        )
        netlink = held.enter_context(system.netlink())
        pins = held.enter_context(open_pins(options, system, check))
        context = HookContext(options, system, netlink, pins, pending.deadline if pending else 0)
        pins.check()
        return _attach(context, given, check) if present else detach(context, check)


def _validated(options: Mapping) -> dict:
    """Return the policy fields given. Raises InvalidInput with every fault that needs no look at the machine."""
    faults, given = [], {}
    try:
        given = policy_from_params(options["policy"])
    except InvalidInput as fault:
        faults += fault.faults
    if not 1 <= options["priority"] <= 65535:
        faults.append(f"priority: {options['priority']} is out of range, 1 to 65535")
    if not 1 <= options["handle"] < 2**32:
        faults.append(f"handle: {options['handle']} is out of range, 1 to 4294967295")
    if options["function"] == FUNCTION and options["direction"] != "ingress":
        faults.append("direction: the splicer belongs on ingress; bpf_sk_assign works nowhere else")
    if options["function"] != FUNCTION and options["policy"] is not None:
        faults.append(f"policy: belongs to our own program {FUNCTION}, not to {options['function']}")
    faults += _source_faults(options)
    if faults:
        raise InvalidInput(faults)
    return given


def _source_faults(options: Mapping) -> list:
    if options["state"] == "absent" or options["blob_content"]:
        return []
    if not options["source_files"]:
        return ["source: no source came with the task (the action plugin ships it); give source_files or blob"]
    if options["source"] not in options["source_files"]:
        there = ", ".join(sorted(options["source_files"]))
        return [f"source: {options['source']!r} is none of source_files ({there})"]
    return []


def _attach(context: HookContext, given: dict, check: bool) -> dict:
    link = links_by_name(context.netlink, [context.options["interface"]], "interface")[0]
    table = context.table(link.ifindex)
    table.refuse_foreign(was_ours=link.ifindex in context.policies())
    hook, elsewhere = context.hook(link.ifindex), context.elsewhere(link.ifindex)
    stood = table.observe().get(hook)
    origin = _origin(context, hook, stood, elsewhere)
    wanted = wanted_program(context.options, context.system.compiler, context.programs.blob(), stood)
    with _pins_for(context, wanted) as pins:
        pins.check()
        context = context._replace(pins=pins)
        had = context.policies()
        want = _wanted_policies(context, given, link, had)
        if context.is_splicer:
            reconcile(PolicyTable(context.system.bpf, context.pins), lambda _have: want, True)
        rules = group_refresh(context.system, context.pins) if context.is_splicer else None
        changed = stood != wanted.attached or had != want or rules is not None or bool(elsewhere)
        found = findings_of_hook(context, link, wanted, want, changed, rules)
        warnings = masked_sources(context.options["policy"]) + enforce(found, bool(context.options.get("force")))
        if changed and not check:
            _apply(context, link, wanted, want, rules)
        policy = want.get(link.ifindex)
        return {
            "changed": changed,
            "attachment": _attachment(context, link, wanted),
            "program": _program(wanted),
            "policy": shown(policy),
            "warnings": warnings,
            "diff": {
                "before": state(link, *origin, had.get(link.ifindex), rules is None),
                "after": state(link, hook, wanted.attached, policy),
            },
        }


def _origin(context: HookContext, hook: Hook, stood, elsewhere: list) -> tuple:
    """Return (hook, Attached or None): what stands where it is wanted, else where it is to be moved from."""
    if stood is not None or not elsewhere:
        return hook, stood
    return elsewhere[0], context.at(elsewhere[0]).table(hook.ifindex).observe().get(elsewhere[0])


def _pins_for(context: HookContext, wanted: Wanted) -> Pins:
    """Return the pins with the maps that the program brings along, when it is not ours."""
    if context.is_splicer or wanted.blob is None:
        return context.pins
    return Pins(context.system.bpf, context.system.bpffs, context.pins.folder, wanted.blob.maps)


def _wanted_policies(context: HookContext, given: dict, link, had: Mapping) -> dict:
    """Return every interface's policy: ours as wanted, the others' as they are, but for interfaces that are gone.

    Each re-creation of an interface takes another index; without this the table would fill up.
    """
    if not context.is_splicer:
        return {}
    there = {entry.ifindex for entry in context.netlink.interfaces()}
    alive = {ifindex: policy for ifindex, policy in had.items() if ifindex in there}
    return {**alive, link.ifindex: _wanted_policy(context, given, link, had.get(link.ifindex))}


def _wanted_policy(context: HookContext, given: dict, link, had: Policy | None) -> Policy:
    """Return the policy as given, else as it stands, else the defaults."""
    base = had if had is not None and context.options["policy"] is None else Policy(**given)
    mark = had.mark if had is not None else _routed_mark(context.netlink, link)
    return Policy(**{**vars(base), "mark": mark, **_of_link(link), "damaged": False, "deadline": context.deadline})


def _of_link(link) -> dict:
    return {"layer3": link.layer3, "loopback": link.loopback}


def _routed_mark(netlink, link) -> Mark:
    """Return the mark that the interface's policy route waits for, else the default."""
    for family in FAMILIES.values():
        for rule in netlink.rules(family):
            if is_ours(rule) and rule.iif == link.name:
                return Mark(rule.mark, rule.mask)
    return Mark()


def _apply(context: HookContext, link, wanted: Wanted, policies: Mapping, rules: GroupRefresh | None) -> None:
    """Maps, rules, program (which the verifier may refuse), policy, filter; backwards when one of them fails.

    Filters of ours elsewhere on the interface go last: at no time is it without one.
    """
    hook, elsewhere = context.hook(link.ifindex), context.elsewhere(link.ifindex)
    with ExitStack() as done, ExitStack() as undo:
        context.pins.ensure()
        forget_gone(context)
        if rules is not None:
            rules.apply(undo)  # first: an image that outgrows its map moves to another, which the program must use
        program = None
        if context.table(link.ifindex).observe() != {hook: wanted.attached}:
            program = context.programs.open(wanted.blob)
            done.callback(os.close, program)
        if context.is_splicer:
            table = PolicyTable(context.system.bpf, context.pins)
            undo.callback(restore_table, table, table.observe())
            reconcile(table, lambda _have: policies, False)
        if program is not None:
            put_filter(context, hook, wanted, program, done, undo)
        for place in elsewhere:
            remove_filter(context.at(place), link, done, undo)
        undo.pop_all()
        context.pins.keep()
    if context.is_splicer:
        drop_older_pins(context.system, context.netlink, context.options["pin_dir"])


def _attachment(context: HookContext, link, wanted: Wanted) -> dict:
    """Return the attachment; program id and tag are None where check mode attached nothing."""
    found = context.table(link.ifindex).filter()
    current = found if found is not None and found.name == wanted.attached.name else None
    return {
        "interface": link.name,
        **context.hook(link.ifindex)._asdict(),
        "program_id": current and current.program_id,
        "tag": current and current.tag,
        "name": wanted.attached.name,
    }


def _program(wanted: Wanted) -> dict:
    return {
        "identity": wanted.identity,
        "source_sha256": wanted.source_sha256,
        "instructions": wanted.blob and wanted.blob.count,
        "compiled": wanted.compiled,
    }
