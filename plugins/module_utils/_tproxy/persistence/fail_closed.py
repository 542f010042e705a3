# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Block interfaces if their saved state cannot be restored and the operator chose fail_closed.

Only an interface without a filter of this collection is blocked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..constants import FUNCTION, HANDLE, PIN_DIR, PRIORITY
from ..errors import TproxyError
from ..model.policy import Policy
from ..model.saved_state import SavedAttachment, decode_closed
from ..program.blob import filter_name
from ..program.fail_closed import fail_closed_program
from ..resources.attachments import FAIL_CLOSED_IDENTITY, Hook, HookFilter, Programs
from ..resources.interfaces import encode_policy
from ..resources.lock import lock_for_change
from ..resources.pins import Pins, splicer_pins
from ..system.netlink.messages import Link
from ..system.system import Netlink, System


def close_interfaces(text: str | None, system: System, only: str | None = None) -> str:
    """Block the interfaces of the list in `text`; return the outcome as a sentence. None: block nothing.

    Where the list is damaged too, every interface but loopback is blocked, and SSH passes.
    """
    if text is None:
        return "fail_open: interfaces without a filter stay open"
    with system.netlink() as netlink:
        links = {link.name: link for link in netlink.interfaces() if only in (None, link.name)}
        pin_dir, entries = _entries(text, links)
        with lock_for_change(system, pin_dir, False), splicer_pins(system.bpf, system.bpffs, pin_dir) as pins:
            outcomes = [
                f"{entry.interface} {_close(entry, links[entry.interface], system, netlink, pins)}"
                for entry in entries
                if entry.interface in links
            ]
    return f"fail_closed: {', '.join(outcomes) or 'none of its interfaces is there'}"


def _entries(text: str, links: Mapping[str, Link]) -> tuple[str, tuple[SavedAttachment, ...]]:
    """Return (pin folder, attachments)."""
    try:
        return decode_closed(text)
    except TproxyError:
        names = sorted(name for name, link in links.items() if not link.loopback)
        return PIN_DIR, tuple(SavedAttachment(name, PRIORITY, HANDLE, Policy(), None, False) for name in names)


def _close(entry: SavedAttachment, link: Link, system: System, netlink: Netlink, pins: Pins) -> str:
    """Block one interface; return its state now. A refusal does not keep the others from being blocked."""
    hook = Hook(link.ifindex, "ingress", entry.priority, entry.handle)
    place = HookFilter(netlink, Programs(system.bpf, pins), hook, FUNCTION)
    program = None
    try:
        if place.filter() is not None:
            return "has its filter"
        program = system.bpf.load_program(fail_closed_program(encode_policy(0, entry.policy)), FUNCTION)
        place.attach(filter_name(FUNCTION, FAIL_CLOSED_IDENTITY), program, system.bpf.program_info(program).id)
        return "lets nothing in but SSH, management, ARP, neighbour discovery and DHCP"
    except TproxyError as fault:
        return f"is OPEN ({fault})"
    finally:
        if program is not None:
            os.close(program)
