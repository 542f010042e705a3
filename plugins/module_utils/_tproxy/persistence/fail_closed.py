# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Block interfaces if their saved state cannot be restored and the operator chose fail_closed.

Only an interface without a program of this collection is blocked. The program has no maps, so it needs no pins: where
the pin folder is out of reach (another user owns it, no bpffs can be mounted), interfaces are blocked nevertheless.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack

from ..constants import FUNCTION, HANDLE, PIN_DIR, PRIORITY
from ..errors import Busy, TproxyError, Unconfirmed
from ..model.policy import Policy
from ..model.saved_state import SavedAttachment, decode_closed
from ..program.blob import filter_name, program_name
from ..program.fail_closed import fail_closed_program
from ..resources.attachments import point_at
from ..resources.hooks import CLSACT, FAIL_CLOSED_IDENTITY, Order, programs_on, runs
from ..resources.interfaces import encode_policy
from ..resources.lock import lock_for_change
from ..resources.pins import Pins, splicer_pins
from ..resources.programs import Programs
from ..resources.restore import hook_of_saved
from ..system.netlink.messages import Link
from ..system.system import Netlink, System


def close_interfaces(text: str | None, system: System, only: str | None = None) -> str:
    """Block the interfaces of the list in `text`; return the outcome as a sentence. None: block nothing.

    Where the list is damaged too, every interface but loopback is blocked, and SSH passes.
    """
    if text is None:
        return "fail_open: interfaces without a program stay open"
    with system.netlink() as netlink:
        links = {link.name: link for link in netlink.interfaces() if only in (None, link.name)}
        pin_dir, entries = _entries(text, links)
        with ExitStack() as held:
            is_held = _hold(system, pin_dir, held)
            pins = held.enter_context(splicer_pins(system.bpf, system.bpffs, pin_dir))
            outcomes = [
                f"{entry.interface} {_close(entry, links[entry.interface], system, netlink, pins, is_held)}"
                for entry in entries
                if entry.interface in links
            ]
    return f"fail_closed: {', '.join(outcomes) or 'none of its interfaces is there'}"


def _hold(system: System, pin_dir: str, held: ExitStack) -> bool:
    """Hold the pin folder, and return whether it is in reach. No other run changes anything where it is not."""
    try:
        held.enter_context(lock_for_change(system, pin_dir, False))
        return True
    except (Unconfirmed, Busy):
        raise
    except TproxyError:
        return False


def _entries(text: str, links: Mapping[str, Link]) -> tuple[str, tuple[SavedAttachment, ...]]:
    """Return (pin folder, attachments)."""
    try:
        return decode_closed(text)
    except TproxyError:
        names = sorted(name for name, link in links.items() if not link.loopback)
        return PIN_DIR, tuple(SavedAttachment(name, PRIORITY, HANDLE, Policy(), None, False) for name in names)


def _close(entry: SavedAttachment, link: Link, system: System, netlink: Netlink, pins: Pins, has_pins: bool) -> str:
    """Block one interface; return its state now. A refusal does not keep the others from being blocked.

    Without pins no marker tells that a clsact qdisc is ours, so a later removal leaves it.
    """
    program = None
    try:
        if any(runs(each, FUNCTION) for each in programs_on(system.bpf, netlink, link.ifindex, "ingress")):
            return "has its program"
        hook = hook_of_saved(system.bpf, entry, link)
        if not has_pins and hook.kind == CLSACT and not netlink.hook_qdisc(link.ifindex):
            netlink.add_clsact(link.ifindex)
        point = point_at(netlink, Programs(system.bpf, pins), hook, FUNCTION)
        code = fail_closed_program(encode_policy(0, entry.policy))
        program = system.bpf.load_program(code, program_name(FUNCTION, FAIL_CLOSED_IDENTITY), FUNCTION)
        name, number = filter_name(FUNCTION, FAIL_CLOSED_IDENTITY), system.bpf.program_info(program).id
        point.attach(name, program, number, Order(before=entry.behind))
        return "lets nothing in but SSH, management, ARP, neighbour discovery and DHCP"
    except TproxyError as fault:
        return f"is OPEN ({fault})"
    finally:
        if program is not None:
            os.close(program)
