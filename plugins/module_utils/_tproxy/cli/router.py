# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The operation of tproxy_router: the whole state of one router in one run.

1. All input is checked, the state is read once, and all parts are planned. Check mode stops here.
2. Command line and unit files are written, then the transaction changes the kernel. A failure undoes both.
3. The state is saved, and systemd starts units whose text or program changed.

While the change waits for confirmation, only the kernel changes. The rest is deferred: the caller runs the operation
again after the confirmation. It stands in this package, because only this package can build the command line.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeVar

from ..checks.findings import enforce, format_finding, not_in_force
from ..checks.preflight import findings_of_router
from ..constants import ABSENT, EXECUTABLE, FUNCTION, GATHERED, RENDERED, REPLACED, ROUTE_TABLE, STATE_FILE
from ..errors import InvalidInput, TproxyError, VerificationFailed
from ..model.policy import InterfaceAddresses, Policy
from ..model.prefix import format_address
from ..model.router_options import WantedRouter, router_from_params
from ..model.rule import Identity, Rule, is_of_a_service, sorted_rules
from ..operations.execute import execute
from ..operations.gather import gather
from ..operations.info import inspect
from ..operations.router import OPEN_AT_BOOT, Target, desired_state, placed, state_without_router, targets
from ..persistence import setup
from ..persistence.metrics_units import MetricsUnits, metrics_units
from ..persistence.setup import UnitPlan, plan_units
from ..persistence.state_file import state_to_save
from ..program.blob import Wanted
from ..program.select import wanted_program
from ..resources.current_state import CurrentState
from ..resources.hooks import TCX, Hook
from ..resources.host_state import InterfacePlan, TransactionPlan
from ..resources.in_force import Waiting, enforcing_attachments, waiting_rules
from ..resources.older_release import older_release_warnings
from ..resources.operation import Diff, Operation, Options, Result
from ..resources.reconcile import Changes, diff
from ..resources.routes import lines
from ..resources.session import open_transaction
from ..resources.transaction import Transaction, trust
from ..system import systemd
from ..system.bcc import Compiler
from ..system.open_checks import open_for_checks
from ..system.system import System
from .install import InstallPlan, plan_install

Entry = TypeVar("Entry")
# The controller has checked the options for it. The archive of the module need not have that code.
RENDERED_ELSEWHERE = "state: the action plugin alone renders; run netedge.tproxy.tproxy_router as a task"


def manage_router(options: Options, system: System, check: bool) -> Result:
    """Bring the whole router to the wanted state, or return its state. Return the values of tproxy_router.

    Raises InvalidInput with every fault of the input, Conflict, Refused and the errors of a transaction; then nothing
    was changed.
    """
    if options["state"] == GATHERED:
        return gather(options, system, check)
    if options["state"] == RENDERED:
        raise InvalidInput([RENDERED_ELSEWHERE])
    if options["state"] == ABSENT:
        return _remove(options, system, check)
    return _configure(options, router_from_params(options, system.processes.user_number), system, check)


# ---- merged, replaced -----------------------------------------------------------------------------


class _Files(NamedTuple):
    """The plans of the files of ours. `saves`: the state file has to be written, `forgets`: it has to be removed."""

    command: InstallPlan
    units: UnitPlan
    saves: bool
    forgets: bool

    @property
    def changed(self) -> bool:
        """Return whether a file changes or a unit has to start."""
        return self.command.changed or self.units.changed or self.saves or self.forgets


def _configure(options: Options, wanted: WantedRouter, system: System, check: bool) -> Result:
    _refuse_what_is_missing(options, system)
    with open_transaction(
        system,
        options["pin_dir"],
        check,
        mount=bool(wanted.present or wanted.rules),
        token=options.get("confirm_token"),
        route_tables=sorted({route.table for route in wanted.routes}),
        ignore_damage=True,
    ) as transaction:
        transaction.pins.check()
        current, is_deferred = transaction.current, bool(options.get("confirm_token"))
        had_pins = bool(transaction.pins.names())
        found = targets(current, wanted)
        program = _program(options, found, transaction)
        places = placed(transaction, found, program)
        desired = desired_state(current, wanted, places, program)
        planned = transaction.plan(replace(desired, pins_program=current.blob is None))
        hooks = {each.hook: each.target.link for each in places}
        warnings = [*wanted.warnings, *_input_warnings(options, wanted, current)]
        before = findings_of_router(transaction, hooks, planned)
        warnings += enforce(before, bool(options["force"]))
        files = _plan_files(options, planned, current)
        released = _released(wanted, planned, current)
        warnings += [format_finding(not_in_force(each)) for each in _waiting(planned, transaction)]
        result = _result(planned, program, files, current, is_deferred)
        result = result.with_data(lost_router_rules=_loses_router_rules(planned, current, had_pins))
        if not check:
            known = {each["code"] for each in before}
            with ExitStack() as undo:
                _write_files(None if is_deferred else files, system, undo)
                verify = partial(_verify, options, found, known, system) if planned.changed else trust
                transaction.apply(planned, verify)
                undo.pop_all()
        warnings += older_release_warnings(system, options["pin_dir"])
    if check and not planned.puts:
        warnings += _foresee_finish(options, files, released, system)
    if not check and not is_deferred:
        warnings += _finish(options, files, released, system)
    return replace(result, warnings=tuple(warnings), released_interfaces=released)


def _refuse_what_is_missing(options: Options, system: System) -> None:
    """Raise InvalidInput for a group or a folder that this machine does not have: systemd would not start the unit."""
    group, folder = (options["helper"] or {}).get("group"), (options["metrics"] or {}).get("dir")
    faults = []
    if group and not system.processes.has_group(group):
        advice = "install the package of the router first, or make the group (groupadd --system); nothing was changed"
        faults.append(f"helper.group: this machine has no group {group!r}; {advice}")
    if folder and not system.files.exists(folder):
        advice = "install node_exporter first, or make the folder (install -d); nothing was changed"
        faults.append(f"metrics.dir: this machine has no folder {folder!r}; {advice}")
    if faults:
        raise InvalidInput(faults)


def _program(options: Options, found: list[Target], transaction: Transaction) -> Wanted | None:
    """Return the program of the interfaces, None where there is no interface."""
    if not found:
        return None
    kept = transaction.current.blob
    return wanted_program({**options, "function": FUNCTION}, transaction.system.compiler, kept, None, trusts_kept=True)


def _input_warnings(options: Options, wanted: WantedRouter, current: CurrentState) -> list[str]:
    """Return warnings about input that has no effect now."""
    there, found = set(current.names.values()), []
    for rule in sorted_rules(wanted.rules or {}):
        gone = sorted(set(rule.interfaces) - there)
        if gone:
            word = f"rule {rule.name!r}" if rule.name else f"the rule {rule.identity}"
            found.append(
                f"{word}: there is no interface {', '.join(gone)} on this machine, so it applies to none of them; it"
                f" has {', '.join(sorted(there))}"
            )
    return found if options["persist"] else [*found, OPEN_AT_BOOT]


def _loses_router_rules(planned: TransactionPlan, current: CurrentState, had_pins: bool) -> bool:
    """Return whether rules of OpenZiti routers go, or could not be carried over: there were no maps, or damaged ones.

    A router never repeats a call, so it has to be restarted then.
    """
    before, _after, changes = _rules_of(planned, current)
    removed = any(is_of_a_service(before[key]) for key in changes.deletes)
    return removed or bool(current.rules.damage) or (bool(planned.puts) and not had_pins)


def _waiting(planned: TransactionPlan, transaction: Transaction) -> tuple[Waiting, ...]:
    """Return the rules that are not in force after the run, by the interface that they wait for."""
    current, after = transaction.current, planned.policies.after if planned.policies else {}
    stands = {each.hook for each in enforcing_attachments(current.attachments, current.programs)}
    enforcing = {hook.ifindex for hook in (stands | set(planned.puts)) - set(planned.removes)} & set(after)
    names = current.names
    rules = planned.rules.plan.after if planned.rules else current.rules.rules
    return waiting_rules(rules.values(), {names[ifindex] for ifindex in enforcing if ifindex in names})


def _released(wanted: WantedRouter, planned: TransactionPlan, current: CurrentState) -> tuple[str, ...]:
    """Return the interfaces that the run stops managing: the state file forgets them."""
    gone = {current.names.get(hook.ifindex, "") for hook in planned.removes} - {each.name for each in wanted.present}
    return tuple(sorted({*gone, *wanted.leaving} - {""}))


def _plan_files(options: Options, planned: TransactionPlan, current: CurrentState) -> _Files:
    system, persist = current.system, options["persist"]
    command = plan_install(EXECUTABLE, options["cli"], options["cli"], options["pin_dir"], system)
    # What the options do not name stays with state=merged, and is removed with state=replaced.
    rest: Options | None = {} if options["state"] == REPLACED else None
    helper, metrics = (rest if options[name] is None else options[name] for name in ("helper", "metrics"))
    group = None if helper is None else helper.get("group", "")
    written = None if metrics is None else metrics_units(metrics)
    interfaces = _managed(planned, current) if persist else None
    units = plan_units(system, interfaces, group, written, command.changed)
    saves = persist and (planned.changed or not setup.is_saved(current, options["pin_dir"], options["failure"]))
    return _Files(command, units, saves, not persist and system.files.exists(STATE_FILE))


def _managed(planned: TransactionPlan, current: CurrentState) -> set[str]:
    """Return the names of the interfaces that have a policy after the run."""
    policies = planned.policies.after if planned.policies else {}
    return {current.names[ifindex] for ifindex in policies if ifindex in current.names}


def _write_files(files: _Files | None, system: System, undo: ExitStack) -> None:
    """Write the files that go before the kernel. `undo` gets the callbacks that bring them back."""
    if files is None:
        return
    if files.forgets:
        files.units.stop(system)  # the watcher would put back what the run removes
        setup.forget(system, undo)
    files.command.apply(system, undo)
    files.units.write(system, undo)


def _verify(options: Options, found: list[Target], known: Collection[str], system: System) -> None:
    """Raise VerificationFailed for an error that a change has left or made. The saved state follows later.

    `known` are the codes of the findings before the run, which the user has forced.
    """
    names = [None, *(each.wanted.name for each in found)]
    wrong = [
        format_finding(each)
        for each in inspect(options, system, True).data["findings"]
        if each["severity"] == "error"
        and each["interface"] in names
        and each["code"] not in known
        and not each["code"].startswith("state_")
    ]
    if wrong:
        raise VerificationFailed(f"the router is not as it should be, so the state before is back: {'; '.join(wrong)}")


def _foresee_finish(options: Options, files: _Files, released: Iterable[str], system: System) -> list[str]:
    """Return the warnings of _finish() after a run that keeps the program, as far as the state before it tells."""
    if not files.saves:
        return []
    try:
        state_to_save(options["pin_dir"], options["failure"], system, None, released)
    except TproxyError as fault:
        return _not_saved(fault, system)
    return []


def _not_saved(fault: TproxyError, system: System) -> list[str]:
    """Return the warning. Where there is a state file, the pipeline tries again, and warns."""
    if system.files.exists(STATE_FILE):
        return []
    return [f"{fault}. The change is in force but not saved: the next boot opens the router"]


def _finish(options: Options, files: _Files, released: Iterable[str], system: System) -> list[str]:
    """Save the state and start the units. Return warnings: the change stands although it cannot be saved."""
    warnings = []
    if files.saves:
        try:
            warnings += setup.save(options["pin_dir"], options["failure"], system, released)
        except TproxyError as fault:
            warnings += _not_saved(fault, system)
    if files.units.changed:
        if not files.forgets:
            files.units.stop(system)
        files.units.start(system)
    return warnings


# ---- result ---------------------------------------------------------------------------------------


def _result(
    planned: TransactionPlan,
    program: Wanted | None,
    files: _Files,
    current: CurrentState,
    is_deferred: bool,
) -> Result:
    before, after, changes = _rules_of(planned, current)
    changed_rules = [key for key in changes.puts if key in before]
    data = {
        "interfaces": sorted(_managed(planned, current)),
        "program": program and {"identity": program.identity, "source_sha256": program.source_sha256},
        "rules": len(after),
        "added": len(changes.puts) - len(changed_rules),
        "changed_rules": len(changed_rules),
        "removed": len(changes.deletes),
        "generation": current.rules.contents.generation + bool(planned.rules and planned.rules.changed),
        "changed_parts": _changed_parts(planned, bool(changes), files) + (["pins"] if planned.repaired else []),
        "deferred": is_deferred and files.changed,
    }
    sides = zip(_rule_lines(planned, current), _kernel_lines(planned, current), _file_lines(files))  # before, after
    texts = ("".join(f"{line}\n" for line in itertools.chain(*parts)) for parts in sides)
    policies = planned.policies.before or planned.policies.after if planned.policies else {}
    changed = planned.changed or bool(changes) or files.changed
    meets_packets = bool(policies) and planned.changed
    return Result(
        changed,
        data,
        Diff(*texts),
        meets_packets=meets_packets,
        pins_program=bool(planned.puts),
        replaces_state_file=files.forgets,
    )


def _changed_parts(planned: TransactionPlan, rules_change: bool, files: _Files) -> list[str]:
    """Return the names of the parts that change."""
    is_changed = {
        "flow tables": bool(planned.flow_tables),
        "rules": rules_change or bool(planned.rules and planned.rules.changed),
        "routes": bool(planned.routes and planned.routes.changed),
        "addresses": bool(planned.addresses and planned.addresses.changes),
        "policies": bool(planned.policies and planned.policies.changes),
        "filters": bool(planned.puts or planned.removes),
        "command line": files.command.changed,
        "units": files.units.changed,
        "saved state": files.saves or files.forgets,
    }
    return [name for name, changed in is_changed.items() if changed]


def _rules_of(
    planned: TransactionPlan, current: CurrentState
) -> tuple[Mapping[Identity, Rule], Mapping[Identity, Rule], Changes[Identity, Rule]]:
    """Return the rules before and after, and their changes. Without a plan of their own they go with their pins."""
    if planned.rules is None:
        return current.rules.rules, {}, diff(current.rules.rules, {})
    return planned.rules.plan.before, planned.rules.plan.after, planned.rules.plan.changes


def _rule_lines(planned: TransactionPlan, current: CurrentState) -> tuple[list[str], list[str]]:
    """Return both sides of the diff of the rules: only what changes."""
    before, _after, changes = _rules_of(planned, current)
    gone = {key: before[key] for key in [*changes.deletes, *changes.puts] if key in before}
    bound = ["rules: compiled and bound anew for the interfaces of today"]
    new = [str(rule) for rule in sorted_rules(changes.puts)]
    is_bound = planned.rules is not None and planned.rules.recompiled
    return [str(rule) for rule in sorted_rules(gone)], new + (bound if is_bound else [])


def _kernel_lines(planned: TransactionPlan, current: CurrentState) -> tuple[list[str], list[str]]:
    """Return both sides of the diff of tables, routes, addresses, policies and attachments: only what changes."""
    before = [f"table {name}: {size} flows" for name, (size, _wanted) in planned.flow_tables.items()]
    after = [f"table {name}: {size} flows" for name, (_had, size) in planned.flow_tables.items()]
    if planned.routes is not None:
        before += lines(planned.routes.changes.deletes)
        after += lines(planned.routes.changes.puts)
    if planned.addresses is not None:
        before += _table_lines(planned.addresses, planned.addresses.before, current, _shown_addresses)
        after += _table_lines(planned.addresses, planned.addresses.after, current, _shown_addresses)
    if planned.policies is not None:
        before += _table_lines(planned.policies, planned.policies.before, current, _shown_policy)
        after += _table_lines(planned.policies, planned.policies.after, current, _shown_policy)
    attached = {each.hook: each.program.name for each in (*current.attachments, *current.trackers)}
    for hook in planned.removes:
        before.append(f"{_place(hook, current)}: {attached.get(hook, 'a program of ours')}")
    for hook in planned.puts:
        wanted = planned.desired.attachments[hook]
        if hook in attached:
            before.append(f"{_place(hook, current)}: {attached[hook]}")
        state = " (bound anew)" if wanted is not None and attached.get(hook) == wanted.name else ""
        after.append(f"{_place(hook, current)}: {wanted.name if wanted else ''}{state}")
    return before, after


def _table_lines(
    part: InterfacePlan[Entry], entries: Mapping[int, Entry], current: CurrentState, show: Callable[[Entry], str]
) -> list[str]:
    changed = sorted({*part.changes.puts, *part.changes.deletes} & set(entries))
    return [f"{current.names.get(ifindex, f'interface {ifindex}')} {show(entries[ifindex])}" for ifindex in changed]


def _shown_addresses(entry: InterfaceAddresses) -> str:
    return f"addresses: {' '.join(format_address(address) for address in entry.addresses) or 'none'}"


def _shown_policy(policy: Policy) -> str:
    params = {**policy.to_params(), **({"damaged": True} if policy.damaged else {})}
    params["management"] = [str(entry) for entry in policy.management]
    return f"policy: {', '.join(f'{name}={value}' for name, value in params.items())}"


def _place(hook: Hook, current: CurrentState) -> str:
    name = current.names.get(hook.ifindex, f"interface {hook.ifindex}")
    if hook.kind == TCX:
        return f"{name} {hook.direction} tcx"
    return f"{name} {hook.direction} priority {hook.priority} handle {hook.handle:#x}"


def _file_lines(files: _Files) -> tuple[list[str], list[str]]:
    command, units = files.command, files.units.lines()
    sides = ([], []) if not command.changed else (command.before.splitlines(), command.after.splitlines())
    before, after = sides[0] + units[0], sides[1] + units[1]
    if files.saves:
        after.append(f"{STATE_FILE}: has the state in force")
    if files.forgets:
        before.append(f"{STATE_FILE}: has a saved state")
    return before, after


# ---- absent ---------------------------------------------------------------------------------------


def _remove(options: Options, system: System, check: bool) -> Result:
    """Remove everything of this collection from the router. It needs no confirmation, as it lets every packet in."""
    pin_dir = options["pin_dir"]
    with open_transaction(
        system, pin_dir, check, mount=False, route_tables=[ROUTE_TABLE], ignore_damage=True
    ) as transaction:
        current = transaction.current
        command = plan_install(EXECUTABLE, False, False, pin_dir, system)
        units = plan_units(system, None, "", MetricsUnits(), False)
        files = _Files(command, units, False, system.files.exists(STATE_FILE))
        planned = transaction.plan(state_without_router(current))
        has_pins = bool(transaction.pins.names())
        result = _result(planned, None, files, current, False)
        leftovers = setup.runtime_files(system)
        if not check:
            units.stop(system)
            with ExitStack() as undo:
                setup.forget(system, undo)
                command.apply(system, undo)
                units.write(system, undo)
                transaction.apply(planned)
                undo.pop_all()
            for path in leftovers:
                system.files.remove(path, True)
    if not check and units.changed:
        units.start(system)
    result = result.with_data(lost_router_rules=any(map(is_of_a_service, current.rules.rules.values())))
    return replace(result, changed=result.changed or has_pins or bool(leftovers), meets_packets=False)


def _open() -> System:
    return replace(open_for_checks(), compiler=Compiler, services=systemd)


MANAGE_ROUTER = Operation("tproxy_router", manage_router, execute, confirmable=True, opens=_open)
