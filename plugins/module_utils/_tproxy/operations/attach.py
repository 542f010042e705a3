# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The operation of tc_bpf_attach: attach a program to a hook, or detach it.

Input, compilation and preflight are refused before the first change. The transaction orders the changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..checks.findings import enforce
from ..checks.preflight import findings_of_hook
from ..constants import FUNCTION, TRACKER
from ..errors import InvalidInput
from ..model.policy import Mark, Policy, WantedHook, masked_sources, policy_from_params
from ..program.blob import Attached, Wanted
from ..program.select import wanted_program
from ..resources.current_state import CurrentState
from ..resources.hooks import CLSACT, Hook, tcx_hook
from ..resources.host_state import HostState, Remains
from ..resources.interfaces import links_by_name
from ..resources.older_release import older_attachments
from ..resources.operation import Answer, Diff, Operation, Options, Result
from ..resources.pins import Pins
from ..resources.routes import FAMILIES, is_ours
from ..resources.session import open_transaction
from ..resources.transaction import Transaction
from ..system.bcc import Compiler
from ..system.netlink.messages import Link
from ..system.open_checks import open_for_checks
from ..system.system import Netlink, System
from .execute import execute
from .hook_choice import choose, elsewhere, hook_that_stands, named_filter, order_of, policy_on


def attach(options: Options, system: System, check_mode: bool) -> Result:
    """Attach or detach one program on one hook. Return the values of tc_bpf_attach.

    Raises InvalidInput, Conflict, Refused and the errors of a transaction; then nothing was changed.
    """
    given = _validated(options)
    is_present = options["state"] == "present"
    with open_transaction(
        system,
        options["pin_dir"],
        check_mode,
        mount=is_present,
        token=options.get("confirm_token"),
        function=options["function"],
        ignore_damage=True,
    ) as transaction:
        transaction.pins.check()
        if not is_present:
            return _detach(options, transaction, check_mode)
        return _attach(options, given, transaction, check_mode)


def _validated(options: Options) -> Answer:
    """Return the given fields of the policy. Raises InvalidInput with each fault that is visible without the kernel."""
    faults, given = [], {}
    try:
        given = policy_from_params(options["policy"])
    except InvalidInput as fault:
        faults += fault.faults
    faults += WantedHook.of(options).faults()
    if options["function"] == FUNCTION and options["direction"] != "ingress":
        faults.append("direction: the splicer belongs on ingress; bpf_sk_assign works nowhere else")
    if options["function"] == TRACKER:
        faults.append(f"function: {TRACKER} comes and goes with {FUNCTION}; set track in its policy")
    if options["function"] != FUNCTION and options["policy"] is not None:
        faults.append(f"policy: belongs to our own program {FUNCTION}, not to {options['function']}")
    faults += _source_faults(options)
    if faults:
        raise InvalidInput(faults)
    return given


def _source_faults(options: Options) -> list[str]:
    if options["state"] == "absent" or options["blob_content"]:
        return []
    if not options["source_files"]:
        return ["source: no source came with the task (the action plugin ships it); give source_files or blob"]
    if options["source"] not in options["source_files"]:
        given = ", ".join(sorted(options["source_files"]))
        return [f"source: {options['source']!r} is none of source_files ({given})"]
    return []


def _attach(options: Options, given: Answer, transaction: Transaction, check_mode: bool) -> Result:
    current = transaction.current
    link = links_by_name(transaction.netlink, [options["interface"]], "interface")[0]
    asked = WantedHook.of(options)
    keeps_blob = not transaction.is_splicer or current.blob is not None
    standing = hook_that_stands(asked, transaction, link)
    stood = transaction.point(standing).observe() if standing else None
    # A program that is at hand nowhere must be compiled, unless it stays where it runs.
    running = stood if keeps_blob and choose(asked, transaction, link, None, standing) == standing else None
    wanted = wanted_program(options, transaction.system.compiler, current.blob, running)
    with _pins_for(transaction, wanted) as pins:
        pins.check()
        transaction = transaction.with_pins(pins)
        current = transaction.current
        stays = standing if stood is not None and stood.name == wanted.attached.name else None
        hook = choose(asked, transaction, link, wanted.blob, stays)
        was_ours = transaction.is_splicer and link.ifindex in current.policies.entries
        transaction.point(hook).refuse_foreign(was_ours)
        desired = state_with(options, given, transaction, link, hook, wanted)
        planned = transaction.plan(replace(desired, pins_program=not keeps_blob))
        found = findings_of_hook(transaction, link, hook, planned)
        warnings = masked_sources(options["policy"]) + enforce(found, bool(options.get("force")))
        if not check_mode:
            transaction.apply(planned)
        policy = planned.policies.after[link.ifindex] if planned.policies else None
        had = planned.policies.before.get(link.ifindex) if planned.policies else None
        data = {
            "attachment": _attachment(transaction, link, hook, wanted),
            "program": _program(wanted),
            "policy": policy and policy.to_params(),
        }
        diff = Diff(
            shown_attachment(link, standing, _as_found(stood, transaction), had, rules_bound=planned.rules is None),
            shown_attachment(link, hook, wanted.attached, policy),
        )
        return Result(
            planned.changed,
            data,
            diff,
            tuple(warnings),
            pins_program=transaction.is_splicer and bool(planned.puts),
        )


def _as_found(stood: Attached | None, transaction: Transaction) -> Attached | None:
    """Return the attachment as this run found it: unbound where its maps had lost their pins."""
    return stood._replace(bound=False) if stood is not None and transaction.pins.repaired else stood


def state_with(
    options: Options,
    given: Answer,
    transaction: Transaction,
    link: Link,
    hook: Hook,
    wanted: Wanted,
) -> HostState:
    """Return the state with the program on the hook, on no other of the interface, and with the interface's policy.

    `given` are the given fields of the policy. Rules are part of it when they must be compiled again, so that they
    apply to the interface from its first packet.
    """
    current, asked = transaction.current, WantedHook.of(options)
    others = elsewhere(asked, transaction, link, hook)
    attachments: dict[Hook, Attached | None] = {hook: wanted.attached, **dict.fromkeys(others, None)}
    orders = {hook: order_of(asked, transaction, link, hook)}
    if not transaction.is_splicer:
        return HostState(attachments=attachments, orders=orders, program=wanted)
    had = current.policies.entries
    policy = policy_on(hook, link, None if options["policy"] is None else given, transaction, wanted.blob)
    mark = had[link.ifindex].mark if link.ifindex in had else _routed_mark(current.netlink, link)
    return HostState(
        rules=current.rules.rules if current.rule_reader.is_stale(current.rules) else None,
        policies={**_of_existing(had, current), link.ifindex: replace(policy, mark=mark)},
        attachments=attachments,
        orders=orders,
        program=wanted,
    )


def _of_existing(policies: Mapping[int, Policy], current: CurrentState) -> dict[int, Policy]:
    """Return the policies of interfaces that exist.

    An interface that is created again gets another index, so its old policies would fill up the table.
    """
    return {ifindex: policy for ifindex, policy in policies.items() if ifindex in current.names}


def _pins_for(transaction: Transaction, wanted: Wanted) -> Pins:
    """Return the pins of our program; for another program pins with the maps of its blob."""
    if transaction.is_splicer or wanted.blob is None:
        return transaction.pins
    system = transaction.system
    return Pins(system.bpf, system.bpffs, transaction.pins.folder, wanted.blob.maps)


def _routed_mark(netlink: Netlink, link: Link) -> Mark:
    """Return the mark of the interface's policy route, else the default."""
    for family in FAMILIES.values():
        for rule in netlink.rules(family):
            if is_ours(rule) and rule.iif == link.name:
                return Mark(rule.mark, rule.mask)
    return Mark()


def _attachment(transaction: Transaction, link: Link, hook: Hook, wanted: Wanted) -> Answer:
    """Return the attachment. Program id and tag are None where check mode attached nothing."""
    found = transaction.point(hook).program()
    attached = found if found is not None and found.name == wanted.attached.name else None
    return {
        "interface": link.name,
        "ifindex": hook.ifindex,
        "direction": hook.direction,
        "hook": hook.kind,
        **_filter_place(hook),
        "program_id": attached and attached.program_id,
        "tag": attached and attached.tag,
        "name": wanted.attached.name,
    }


def _filter_place(hook: Hook | None) -> Answer:
    """Return priority and handle, which only a filter has."""
    of_filter = hook is not None and hook.kind == CLSACT
    return {
        "priority": hook.priority if hook and of_filter else None,
        "handle": hook.handle if hook and of_filter else None,
    }


def _program(wanted: Wanted) -> Answer:
    return {
        "identity": wanted.identity,
        "source_sha256": wanted.source_sha256,
        "instructions": wanted.blob and wanted.blob.count,
        "compiled": wanted.compiled,
    }


# ---- detach --------------------------------------------------------------------------------


def _detach(options: Options, transaction: Transaction, check_mode: bool) -> Result:
    """Remove our program from one interface. Return the values of tc_bpf_attach."""
    link = transaction.netlink.link(options["interface"])
    hooks = _hooks(options, transaction, link) if link else []
    is_last = bool(transaction.pins.names()) and all(hook in hooks for hook in _users(transaction))
    before = _shown_before(options, transaction, link, hooks, is_last)
    planned = transaction.plan(state_without(options, transaction, link, hooks, is_last))
    if not check_mode:
        transaction.apply(planned)
    return Result(
        planned.changed or is_last,
        {"attachment": None, "program": None, "policy": None},
        Diff(before, shown_attachment(link, None, None, None)),
        released_interfaces=(link.name if link else options["interface"],),
        may_cut_off=False,
    )


def state_without(
    options: Options, transaction: Transaction, link: Link | None, hooks: list[Hook], is_last: bool
) -> HostState:
    """Return the state without our program on the interface, and without its policy and its recorded addresses."""
    current, remains = transaction.current, Remains.NOTHING if is_last else Remains.EVERYTHING
    if link is None:
        return HostState(remains=remains)
    # A killed run may have left a qdisc on the named hook.
    attachments = dict.fromkeys(hooks or [named_filter(WantedHook.of(options), link)], None)
    if not transaction.is_splicer:
        return HostState(attachments=attachments, remains=remains)
    return HostState(
        addresses={key: entry for key, entry in current.addresses.entries.items() if key != link.ifindex},
        policies={key: policy for key, policy in current.policies.entries.items() if key != link.ifindex},
        attachments=attachments,
        remains=remains,
    )


def _hooks(options: Options, transaction: Transaction, link: Link) -> list[Hook]:
    """Return the hooks that lose a program: the named filter and the TCX program, and all that run our own program.

    Our program would close the interface on another hook, without the policy that is removed.
    """
    places = (tcx_hook(link.ifindex, options["direction"]), named_filter(WantedHook.of(options), link))
    found = [place for place in places if transaction.point(place).program() is not None]
    if transaction.is_splicer:
        found += [each.hook for each in transaction.current.attachments if each.link.ifindex == link.ifindex]
    return list(dict.fromkeys(found))


def _users(transaction: Transaction) -> list[Hook]:
    """Return the hooks that run the program, or the program of an older release."""
    found = list(transaction.current.attachments)
    if transaction.is_splicer:
        found += older_attachments(transaction.system, transaction.netlink, transaction.pin_dir)
    return [each.hook for each in found]


def _shown_before(
    options: Options, transaction: Transaction, link: Link | None, hooks: list[Hook], is_last: bool
) -> dict[str, object]:
    """Return the side before of the diff; with the last filter it has the rules that are removed."""
    hook = hooks[0] if hooks else None
    attached = transaction.point(hook).observe() if hook else None
    policy = None
    if transaction.is_splicer and link is not None:
        policy = transaction.current.policies.entries.get(link.ifindex)
    shown = shown_attachment(link, hook, attached, policy)
    rules = transaction.current.rules.rules if is_last and transaction.is_splicer else {}
    return {**shown, "rules": [str(rules[identity]) for identity in sorted(rules)]} if rules else shown


def shown_attachment(
    link: Link | None, hook: Hook | None, attached: Attached | None, policy: Policy | None, rules_bound: bool = True
) -> Answer:
    """Return one side of the diff of tc_bpf_attach. `rules_bound`: the rules are compiled for the interfaces of now."""
    return {
        "interface": link and link.name,
        "filter": attached and attached.name,
        "hook": hook.kind if hook and attached else None,
        **_filter_place(hook if attached else None),
        "bound": bool(attached and attached.bound),
        "rules_bound": rules_bound,
        "policy": policy and policy.to_params(),
    }


def _open() -> System:
    return replace(open_for_checks(), compiler=Compiler)


ATTACH = Operation("tc_bpf_attach", attach, execute, confirmable=True, opens=_open)
