# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fake machines in hostile states: other programs, other users, damage, and changes that wait for confirmation.

tests/kernel/operations/test_check_mode.py has the states that need the real kernel.
"""

from __future__ import annotations

import functools
import json
from typing import Callable, NamedTuple

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import (
    INTERFACES,
    LAYOUT,
    REASON_DEFAULT,
    VERDICT_DROP,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.install import LINKS
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import (
    EXECUTABLE,
    PIN_DIR,
    STATE_FILE,
    UNIT_FOLDER,
    WATCH_UNIT,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.confirm import confirm_change
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.lock import record_path
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.routes import FAMILIES
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.messages import (
    ETH_P_ALL,
    Filter,
    RouteRule,
)

from .fakes.kernel import Map, Program
from .fakes.machine import Machine
from .fakes.system import FOLDER, LINK
from .options import options
from .scenarios import ALL, BOTH, CLOSED, MAIL, WEB, attaching, lasting, play, rule, ruling, saving

ETH_P_IP = 0x0800
LAN0, LAN1 = 3, 4
INGRESS, EGRESS = "ingress", "egress"
MARK = 0x10000000
PINS = f"{PIN_DIR}/v{LAYOUT}"
ROUTER_RULE = rule("203.0.113.9", owner="ziti:a")
NEW = (attaching("lan1", policy=CLOSED),)  # lan0 has no program
FULL = (lasting(WEB, MAIL, ROUTER_RULE, helper={"group": "ziti"}),)
BEGINNING = (confirm_change, options("tproxy_confirm", state="begun", token="theirs", confirm_timeout=60))


class Hostile(NamedTuple):
    """A state of a machine: the runs before it, and the event that made it hostile."""

    before: tuple
    event: Callable[[Machine], None]
    has_tcx: bool = False

    def machine(self) -> Machine:
        """Return a machine in this state."""
        machine = Machine(self.has_tcx)
        for run in self.before:
            play(machine, run)
        self.event(machine)
        machine.start_over()
        machine.still_open()
        return machine


def _nothing(_machine: Machine) -> None:
    pass


def _foreign_filter(machine: Machine, hook=(LAN0, INGRESS), kind="bpf", priority=10, handle=1, protocol=ETH_P_ALL):
    """Add a filter of another program, with a qdisc that holds it."""
    machine.qdiscs.setdefault(hook[0], "clsact")
    found = Filter(kind, priority, handle, protocol, 0, "theirs", None, None, True)
    machine.foreign_filters.setdefault(hook, []).append(found)


def _replaced_filter(machine: Machine) -> None:
    """Replace our filter on lan0 by a filter of another program."""
    machine.filters.pop((LAN0, INGRESS), None)
    _foreign_filter(machine)


def _plain_qdisc(machine: Machine) -> None:
    machine.qdiscs[LAN0] = "ingress"


def _shared_block(machine: Machine) -> None:
    machine.qdiscs[LAN0] = "clsact"
    machine.shared_blocks[LAN0, INGRESS] = 22


def _foreign_tcx(machine: Machine, count: int = 1) -> None:
    for _each in range(count):
        machine.made += 1
        chain = machine.tcx.get((LAN0, INGRESS), [])
        machine.set_tcx(LAN0, INGRESS, [Program(machine.made, b"\x95" + bytes(7), "theirs", []), *chain])


def _foreign_default(machine: Machine, families=("ipv4", "ipv6"), table: int = 1080) -> None:
    for name in families:
        machine.foreign_defaults.add((table, FAMILIES[name]))
        machine.local_defaults.discard((table, FAMILIES[name]))


def _rule(machine: Machine, **given) -> None:
    """Add a policy rule of another program."""
    for family in FAMILIES.values():
        machine.rules.append(RouteRule(family, 1080, "lan0", MARK, MARK, 1080)._replace(**given))


def _lose_routes(machine: Machine) -> None:
    machine.rules, machine.local_defaults = [], set()


def _lose_pins(machine: Machine, *names: str) -> None:
    """Remove these pins, or all. The programs on the hooks keep their maps."""
    for path in list(machine.files):
        if path.startswith(f"{PINS}/") and (not names or path[len(PINS) + 1 :] in names):
            del machine.files[path]
    if not names:
        machine.files.pop(PINS, None)


def _unmount(machine: Machine) -> None:
    machine.files, machine.mounted = {}, False


def _wrong_pin(machine: Machine, thing: Callable[[Machine], object], name: str = "policy") -> None:
    machine.files.setdefault(PIN_DIR, FOLDER)
    machine.files.setdefault(PINS, FOLDER)
    machine.made += 1
    machine.files[f"{PINS}/{name}"] = thing(machine)


def _map_of_another_shape(machine: Machine) -> Map:
    return Map(machine.made, (2, 4, 8, 16, 0), "policy")


def _program(machine: Machine) -> Program:
    return Program(machine.made, b"\x95" + bytes(7), "theirs", [])


def _spoil_image(machine: Machine) -> None:
    """Overwrite a page of the image in force."""
    for image in machine.files[f"{PINS}/image"].entries.values():
        image.memory[4096 * 2 : 4096 * 2 + 16] = b"\xff" * 16


def _spoil_policy(machine: Machine) -> None:
    table = machine.files[f"{PINS}/policy"].entries
    for key, raw in table.items():
        table[key] = raw[:4] + b"\xff" * 8 + raw[12:]


def _spoil_meta(machine: Machine) -> None:
    table = machine.files[f"{PINS}/meta"].entries
    for key, raw in table.items():
        table[key] = raw[:200] + b"\xff" * 8 + raw[208:]


def _text(machine: Machine, path: str, text: object) -> None:
    machine.disk[path] = text


def _broken_state(machine: Machine) -> None:
    machine.disk[STATE_FILE] = machine.disk[STATE_FILE][:-40]


def _state_of_another_folder(machine: Machine) -> None:
    text = machine.disk[STATE_FILE]
    machine.disk[STATE_FILE] = text.replace(PIN_DIR, "/sys/fs/bpf/other")


def _without(machine: Machine, path: str) -> None:
    machine.disk.pop(path, None)


def _no_rights(machine: Machine) -> None:
    machine.sysctl.has_capability = lambda _number: False


def _vrf(machine: Machine) -> None:
    machine.links["lan0"] = machine.links["lan0"]._replace(master=9, master_kind="vrf")


def _rename(machine: Machine) -> None:
    """Rename lan0, whose ifindex stays."""
    link = machine.links.pop("lan0")
    machine.links["wan9"] = link._replace(name="wan9")


def _replug(machine: Machine) -> None:
    machine.replug()


def _gone(machine: Machine) -> None:
    machine.unplug("lan0")


def _lost_addresses(machine: Machine) -> None:
    machine.addresses = []


def _many_interfaces(machine: Machine) -> None:
    """Fill the table of policies with interfaces that exist."""
    for number in range(INTERFACES - 2):
        machine.plug(f"x{number}", 100 + number, ())


def _waiting(machine: Machine, seconds: int = 0) -> None:
    """Begin a change of another user, as many seconds ago."""
    play(machine, BEGINNING)
    machine.clock += seconds * 10**9


def _outcome(machine: Machine, state: str) -> None:
    _waiting(machine)
    play(machine, (confirm_change, options("tproxy_confirm", state=state, token="theirs")))


def _broken_record(machine: Machine) -> None:
    _waiting(machine)
    machine.disk[record_path(PIN_DIR)] = machine.disk[record_path(PIN_DIR)][:30]


def _record_of_another_boot(machine: Machine) -> None:
    _waiting(machine)
    machine.reboot()
    found = json.loads(machine.disk[record_path(PIN_DIR)])
    machine.disk[record_path(PIN_DIR)] = json.dumps({**found, "boot_id": "before"})


def _ssh(machine: Machine) -> None:
    """Run within an SSH session, whose port no policy passes."""
    machine.processes.ssh = ("10.1.0.2", "40000", "10.1.0.1", "2222")
    machine.fate = REASON_DEFAULT, VERDICT_DROP


def _foreign_parts(machine: Machine) -> None:
    machine.foreign_parts = ("expected /sys/fs/bpf to belong to root, got uid 1000",)


def _no_compiler(machine: Machine) -> None:
    machine.has_compiler = False


def _killed_move(machine: Machine) -> None:
    machine.files[f"{PINS}/moving"] = FOLDER


STATES = {
    "bare": Hostile((), _nothing),
    "bare, with TCX": Hostile((), _nothing, True),
    "all parts": Hostile(ALL, _nothing),
    "a whole router": Hostile(FULL, _nothing),
    "a whole router, with TCX": Hostile(FULL, _nothing, True),
    # qdiscs and filters of other programs
    "a plain ingress qdisc": Hostile(NEW, _plain_qdisc),
    "a shared filter block": Hostile(NEW, _shared_block),
    "a shared filter block, with TCX": Hostile(NEW, _shared_block, True),
    "a filter at our place": Hostile(NEW, _foreign_filter),
    "a filter at our place for IPv4 alone": Hostile(NEW, functools.partial(_foreign_filter, protocol=ETH_P_IP)),
    "a filter at our priority for IPv4 alone": Hostile(
        NEW, functools.partial(_foreign_filter, handle=7, protocol=ETH_P_IP)
    ),
    "a filter at our priority": Hostile(NEW, functools.partial(_foreign_filter, handle=7)),
    "a u32 filter at our priority": Hostile(NEW, functools.partial(_foreign_filter, kind="u32", handle=0x80000800)),
    "a filter before ours": Hostile(ALL, functools.partial(_foreign_filter, priority=5)),
    "a filter before ours, with TCX": Hostile(NEW, functools.partial(_foreign_filter, priority=5), True),
    "a filter on egress": Hostile(ALL, functools.partial(_foreign_filter, hook=(LAN0, EGRESS))),
    "our filter replaced": Hostile(FULL, _replaced_filter),
    "TCX programs of others": Hostile(NEW, functools.partial(_foreign_tcx, count=2), True),
    "a TCX program before ours": Hostile(FULL, _foreign_tcx, True),
    "no room for a TCX program": Hostile(NEW, functools.partial(_foreign_tcx, count=64), True),
    "filters lost": Hostile(FULL, lambda machine: machine.lose_filters()),
    "filters lost, with TCX": Hostile(FULL, lambda machine: machine.lose_filters(), True),
    # routes and policy rules
    "a foreign default route": Hostile(NEW, _foreign_default),
    "a foreign default route of IPv6": Hostile(ALL, functools.partial(_foreign_default, families=("ipv6",))),
    "a foreign default route in another table": Hostile(ALL, functools.partial(_foreign_default, table=7)),
    "a foreign rule for our table": Hostile(NEW, functools.partial(_rule, iif="", protocol=3)),
    "our rule with another protocol": Hostile(NEW, functools.partial(_rule, protocol=3)),
    "our rule with more selectors": Hostile(NEW, functools.partial(_rule, plain=False)),
    "a rule with more selectors beside ours": Hostile(ALL, functools.partial(_rule, plain=False)),
    "a rule of ours for an interface that is gone": Hostile(NEW, functools.partial(_rule, iif="old0")),
    "routes lost": Hostile(FULL, _lose_routes),
    # pins
    "no bpffs": Hostile((), _unmount),
    "the bpffs of a running router unmounted": Hostile(FULL, _unmount),
    "the bpffs unmounted, with TCX": Hostile(FULL, _unmount, True),
    "all pins removed": Hostile(ALL, _lose_pins),
    "the pin of the policies removed": Hostile(ALL, lambda machine: _lose_pins(machine, "policy")),
    "the pin of the image removed": Hostile(FULL, lambda machine: _lose_pins(machine, "image")),
    "the pin of the addresses removed": Hostile(FULL, lambda machine: _lose_pins(machine, "ifindex_ip_map")),
    "the pin of the program removed": Hostile(FULL, lambda machine: _lose_pins(machine, "program")),
    "a map of another shape": Hostile((), functools.partial(_wrong_pin, thing=_map_of_another_shape)),
    "a program in the place of a map": Hostile((), functools.partial(_wrong_pin, thing=_program)),
    "a folder in the place of a map": Hostile((), functools.partial(_wrong_pin, thing=lambda _machine: FOLDER)),
    "another user's folder": Hostile(ALL, _foreign_parts),
    "a killed move": Hostile(FULL, _killed_move),
    "a damaged image": Hostile(ALL, _spoil_image),
    "a damaged policy": Hostile(FULL, _spoil_policy),
    "a damaged blob": Hostile(FULL, _spoil_meta),
    # files
    "a foreign executable": Hostile((), functools.partial(_text, path=EXECUTABLE, text=b"#!/bin/sh\n")),
    "a foreign link": Hostile(
        (), lambda machine: _text(machine, f"{EXECUTABLE.rpartition('/')[0]}/{LINKS[0]}", {LINK: "busybox"})
    ),
    "no executable": Hostile(FULL, functools.partial(_without, path=EXECUTABLE)),
    "an edited unit": Hostile(FULL, functools.partial(_text, path=f"{UNIT_FOLDER}/{WATCH_UNIT}", text=b"[Unit]\n")),
    "a dead watcher": Hostile(FULL, lambda machine: machine.units.clear()),
    "a damaged state file": Hostile(FULL, _broken_state),
    "a state file of another folder": Hostile((*ALL, saving()), _state_of_another_folder),
    "a state file without its router": Hostile(FULL, lambda machine: machine.reboot()),
    # the machine
    "no capabilities": Hostile(ALL, _no_rights),
    "no compiler": Hostile(ALL, _no_compiler),
    "a VRF": Hostile(NEW, _vrf),
    "an interface renamed": Hostile(FULL, _rename),
    "an interface made anew": Hostile(FULL, _replug),
    "an interface gone": Hostile(FULL, _gone),
    "addresses lost": Hostile(FULL, _lost_addresses),
    "many interfaces": Hostile(BOTH, _many_interfaces),
    "an SSH session that nothing lets in": Hostile(NEW, _ssh),
    "an SSH session on a whole router": Hostile(FULL, _ssh),
    # changes that wait for confirmation
    "a change that waits": Hostile(ALL, _waiting),
    "a confirmed change": Hostile(ALL, functools.partial(_outcome, state="confirmed")),
    "a change rolled back": Hostile(ALL, functools.partial(_outcome, state="rolled_back")),
    "a damaged record of a change": Hostile(ALL, _broken_record),
    "a change of an earlier boot": Hostile(ALL, _record_of_another_boot),
    "rules alone": Hostile((ruling(WEB, ROUTER_RULE),), _nothing),
}
