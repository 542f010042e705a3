# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The story of tc_bpf_attach: from a source to a filter that runs it, and back.

1. What can be refused is refused before the first change: input, compilation, the verifier.
2. Policy first, filter second: no packet meets the program before its policy is there.
3. A failure half way takes back what was done.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any, Mapping, NamedTuple, Optional

from ._attachments import AttachmentTable, Hook, Programs, users
from ._doors import Doors, known_links, turn
from ._errors import InvalidInput
from ._interface import Mark, Policy, policy_from_params
from ._interface_tables import AddressTable, PolicyTable
from ._lay_route import FAMILIES, is_ours
from ._pins import Pins, other_pins, splicer_pins
from ._reconcile import reconcile
from ._splicer import FUNCTION
from ._wanted_program import Wanted, wanted_program


class Scene(NamedTuple):
    """What a run works with, once the doors are open."""

    options: Mapping
    doors: Doors
    netlink: Any
    pins: Pins

    @property
    def is_splicer(self) -> bool:
        """Whether it is about our own program."""
        return self.options["function"] == FUNCTION

    @property
    def programs(self) -> Programs:
        """Return the programs of the pin folder."""
        return Programs(self.doors.bpf, self.pins)

    def table(self, ifindex: int, program=None) -> AttachmentTable:
        """Return the table of the one hook that the options name."""
        return AttachmentTable(self.netlink, self.programs, self.hook(ifindex), self.options["function"], program)

    def hook(self, ifindex: int) -> Hook:
        """Return the hook that the options name."""
        return Hook(ifindex, self.options["direction"], self.options["priority"], self.options["handle"])


def attach(options: Mapping, doors: Doors, check: bool) -> dict:
    """Attach or detach one program on one hook. Returns what tc_bpf_attach returns."""
    given = _validated(options)
    with turn(doors, options["pin_dir"], check), doors.netlink() as netlink:
        with _pins(options, doors) as pins:
            scene = Scene(options, doors, netlink, pins)
            pins.check()
            return _detach(scene, check) if options["state"] == "absent" else _attach(scene, given, check)


def _validated(options: Mapping) -> dict:
    """Return the policy fields given. Raises InvalidInput with every fault that needs no look at the machine."""
    faults, given = [], {}
    try:
        given = policy_from_params(options["policy"])
    except InvalidInput as fault:
        faults += fault.faults
    if not 1 <= options["priority"] <= 65535:
        faults.append(f"priority: {options['priority']} is none, 1 to 65535")
    if not 1 <= options["handle"] < 2**32:
        faults.append(f"handle: {options['handle']} is none, 1 to 4294967295")
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
        return [f"source: {options['source']!r} is none of source_files ({', '.join(sorted(options['source_files']))})"]
    return []


def _pins(options: Mapping, doors: Doors) -> Pins:
    if options["function"] == FUNCTION:
        return splicer_pins(doors.bpf, doors.bpffs, options["pin_dir"])
    return other_pins(doors.bpf, doors.bpffs, f"{options['pin_dir']}/{options['function']}")


# ---- present ----------------------------------------------------------------


def _attach(scene: Scene, given: dict, check: bool) -> dict:
    link = known_links(scene.netlink, [scene.options["interface"]], "interface")[0]
    table = scene.table(link.ifindex)
    table.refuse_strangers()
    stood = table.observe().get(scene.hook(link.ifindex))
    wanted = wanted_program(scene.options, scene.doors.compiler, scene.programs.blob(), stood)
    scene = _with_maps_of(scene, wanted)
    had = _policies(scene).get(link.ifindex)
    policy = _wanted_policy(scene, given, link, had) if scene.is_splicer else None
    changed = stood != wanted.attached or had != policy
    if changed and not check:
        _apply(scene, link, wanted, policy)
    return {
        "changed": changed,
        "attachment": _attachment(scene, link, wanted),
        "program": _program(scene, wanted),
        "policy": _shown(policy),
        "warnings": _warnings(scene, link),
        "diff": {"before": _state(link, stood, had), "after": _state(link, wanted.attached, policy)},
    }


def _with_maps_of(scene: Scene, wanted: Wanted) -> Scene:
    """Return the scene with the maps that the program brings along, when it is not ours."""
    if scene.is_splicer or wanted.blob is None:
        return scene
    pins = Pins(scene.doors.bpf, scene.doors.bpffs, scene.pins.folder, wanted.blob.maps)
    pins.check()
    return scene._replace(pins=pins)


def _policies(scene: Scene) -> dict:
    return PolicyTable(scene.doors.bpf, scene.pins).observe() if scene.is_splicer else {}


def _wanted_policy(scene: Scene, given: dict, link, had: Optional[Policy]) -> Policy:
    """Return the policy as given, else as it stands, else the defaults."""
    base = had if had is not None and scene.options["policy"] is None else Policy(**given)
    mark = had.mark if had is not None else _routed_mark(scene.netlink, link)
    return Policy(**{**vars(base), "mark": mark, "layer3": link.layer3, "loopback": link.loopback})


def _routed_mark(netlink, link) -> Mark:
    """Return the mark that the interface's policy route waits for, else the default."""
    for family in FAMILIES.values():
        for rule in netlink.rules(family):
            if is_ours(rule) and rule.iif == link.name:
                return Mark(rule.mark, rule.mask)
    return Mark()


def _apply(scene: Scene, link, wanted: Wanted, policy: Optional[Policy]) -> None:
    """Maps, program (which the verifier may refuse), policy, filter; backwards when one of them fails."""
    with ExitStack() as undo:
        if not scene.pins.names():
            undo.callback(scene.pins.remove)
        scene.pins.ensure()
        hook = scene.hook(link.ifindex)
        must_attach = scene.table(link.ifindex).observe() != {hook: wanted.attached}
        program = _open_program(scene, wanted) if must_attach else None
        if policy is not None:
            _put_policy(scene, link.ifindex, policy, undo)
        if program is not None:
            with program:
                _put_filter(scene, hook, wanted, program, undo)
        undo.pop_all()


class _Program:
    """A descriptor that is closed when done with, and the program's id."""

    def __init__(self, scene: Scene, descriptor: int):
        self.descriptor, self.id = descriptor, scene.doors.bpf.program_info(descriptor).id

    def __enter__(self) -> _Program:
        return self

    def __exit__(self, *_fault) -> None:
        os.close(self.descriptor)


def _open_program(scene: Scene, wanted: Wanted) -> _Program:
    return _Program(scene, scene.programs.open(wanted.blob))


def _put_policy(scene: Scene, ifindex: int, policy: Policy, undo: ExitStack) -> None:
    table = PolicyTable(scene.doors.bpf, scene.pins)
    had = table.observe()
    undo.callback(reconcile, table, lambda _have: had, False)
    reconcile(table, lambda have: {**have, ifindex: policy}, False)


def _put_filter(scene: Scene, hook: Hook, wanted: Wanted, program: _Program, undo: ExitStack) -> None:
    table = scene.table(hook.ifindex, lambda: (program.descriptor, program.id))
    stood = table.filter()
    if stood is None:
        undo.callback(scene.netlink.delete_filter, *hook)
    else:
        old = _Program(scene, scene.doors.bpf.program_by_id(stood.program_id))
        undo.push(old)
        undo.callback(scene.netlink.replace_filter, *hook, old.descriptor, stood.name)
    scene.programs.remember(program.descriptor, wanted.blob)
    reconcile(table, lambda _have: {hook: wanted.attached}, False)


def _attachment(scene: Scene, link, wanted: Wanted) -> dict:
    """Return the attachment; program id and tag are None where check mode attached nothing."""
    found = scene.table(link.ifindex).filter()
    current = found if found is not None and found.name == wanted.attached.name else None
    return {
        "interface": link.name,
        **scene.hook(link.ifindex)._asdict(),
        "program_id": current and current.program_id,
        "tag": current and current.tag,
        "name": wanted.attached.name,
    }


def _program(scene: Scene, wanted: Wanted) -> dict:
    return {
        "identity": wanted.identity,
        "source_sha256": wanted.source_sha256,
        "instructions": wanted.blob and wanted.blob.count,
        "compiled": wanted.compiled,
    }


def _warnings(scene: Scene, link) -> list:
    """Return who runs before us and may end the chain: then our program never sees the packet."""
    options, found = scene.options, []
    for entry in scene.table(link.ifindex).ahead():
        found.append(
            f"{entry.kind} filter {entry.name!r} at priority {entry.priority} of {link.name} runs before ours:"
            " a packet that it lets pass with TC_ACT_OK never reaches us"
        )
    for number in scene.doors.bpf.tcx_programs(link.ifindex, options["direction"]):
        found.append(f"TCX program {number} on {link.name} runs before ours: a packet that it passes never reaches us")
    return found


# ---- absent -----------------------------------------------------------------


def _detach(scene: Scene, check: bool) -> dict:
    link = scene.netlink.link(scene.options["interface"])
    ifindex = link.ifindex if link else None
    had = _policies(scene).get(ifindex)
    stood = scene.table(ifindex).observe().get(scene.hook(ifindex)) if link else None
    others = [entry for user, _way, entry in _users(scene) if _hook_of(user, _way, entry) != (link and scene.hook(ifindex))]
    changed = stood is not None or had is not None or (not others and bool(scene.pins.names()))
    if changed and not check:
        _remove(scene, link, last=not others)
    return {
        "changed": changed,
        "attachment": None,
        "program": None,
        "policy": None,
        "warnings": [],
        "diff": {"before": _state(link, stood, had), "after": _state(link, None, None)},
    }


def _users(scene: Scene) -> list:
    return users(scene.netlink, scene.programs, scene.options["function"])


def _hook_of(link, direction: str, entry) -> Hook:
    return Hook(link.ifindex, direction, entry.priority, entry.handle)


def _remove(scene: Scene, link, last: bool) -> None:
    """Filter first: without its policy the program would close the interface."""
    if link is not None:
        reconcile(scene.table(link.ifindex), lambda _have: {}, False)
        if scene.is_splicer:
            for table in (PolicyTable(scene.doors.bpf, scene.pins), AddressTable(scene.doors.bpf, scene.pins)):
                reconcile(table, lambda have: {key: value for key, value in have.items() if key != link.ifindex}, False)
    if last:
        scene.pins.remove()


# ---- words -------------------------------------------------------------------


def _shown(policy: Optional[Policy]) -> Optional[dict]:
    return policy and policy.to_params()


def _state(link, attached, policy: Optional[Policy]) -> dict:
    return {
        "interface": link and link.name,
        "filter": attached and attached.name,
        "bound": bool(attached and attached.bound),
        "policy": _shown(policy),
    }
