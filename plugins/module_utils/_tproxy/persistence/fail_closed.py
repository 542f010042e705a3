# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Block interfaces if their saved state cannot be restored and the operator chose fail_closed.

Only an interface without a filter of this collection is blocked.
"""

from __future__ import annotations

import os

from ..constants import FUNCTION, HANDLE, PIN_DIR, PRIORITY
from ..errors import TproxyError
from ..model.policy import Policy
from ..model.saved_state import SavedAttachment, decode_closed
from ..program.blob import Attached, filter_name
from ..program.fail_closed import fail_closed_program
from ..resources.attachments import FAIL_CLOSED_IDENTITY, AttachmentTable, Hook
from ..resources.interface_records import encode_policy
from ..resources.lock import lock_for_change
from ..resources.pins import splicer_pins
from ..resources.programs import Programs
from ..resources.reconcile import Changes
from ..system.system import System


def close_interfaces(text: str | None, system: System, only: str | None = None) -> str:
    """Close what the list in `text` names; return what became of it, in words. None: nothing is to be closed.

    Where the list is damaged too, every interface but loopback is closed, and SSH passes.
    """
    if text is None:
        return "fail_open: interfaces without a filter stay open"
    with system.netlink() as netlink:
        links = {link.name: link for link in netlink.interfaces() if only in (None, link.name)}
        pin_dir, entries = _entries(text, links)
        with lock_for_change(system, pin_dir, False), splicer_pins(system.bpf, system.bpffs, pin_dir) as pins:
            said = [
                f"{entry.interface} {_close(entry, links[entry.interface], system, netlink, pins)}"
                for entry in entries
                if entry.interface in links
            ]
    return f"fail_closed: {', '.join(said) or 'none of its interfaces is there'}"


def _entries(text: str, links: dict) -> tuple:
    """Return (pin folder, attachments)."""
    try:
        return decode_closed(text)
    except TproxyError:
        names = sorted(name for name, link in links.items() if not link.loopback)
        return PIN_DIR, tuple(SavedAttachment(name, PRIORITY, HANDLE, Policy(), None, False) for name in names)


def _close(entry: SavedAttachment, link, system: System, netlink, pins) -> str:
    """Close one interface; return what is so now. A refusal does not keep the others from being closed."""
    hook = Hook(link.ifindex, "ingress", entry.priority, entry.handle)
    program = None
    try:
        if AttachmentTable(netlink, Programs(system.bpf, pins), hook, FUNCTION).filter() is not None:
            return "has its filter"
        program = system.bpf.load_program(fail_closed_program(encode_policy(0, entry.policy)), FUNCTION)
        number = system.bpf.program_info(program).id
        table = AttachmentTable(netlink, Programs(system.bpf, pins), hook, FUNCTION, lambda: (program, number))
        table.apply(Changes({hook: Attached(filter_name(FUNCTION, FAIL_CLOSED_IDENTITY))}, ()), {})
        return "lets nothing in but SSH, management, ARP, neighbour discovery and DHCP"
    except TproxyError as fault:
        return f"is OPEN ({fault})"
    finally:
        if program is not None:
            os.close(program)
