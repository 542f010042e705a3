# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Hooks, and the programs that stand on them: filters of a qdisc, and TCX programs (Linux 6.6).

1. TCX programs run before all filters of the hook. A verdict other than TCX_NEXT ends the chain.
2. A filter has a priority, a handle and a name. Its name is FUNCTION:IDENTITY.
3. A TCX program has none of these. The kernel's name of the program tells its identity (program/blob.py). A program of
   another function counts as ours only with a map that is pinned in the folder of that function.
4. A TCX program is attached without a link, so it stays as long as its interface. A link ends with its last pin, and
   `umount -l /sys/fs/bpf` would open the router.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import NamedTuple

from ..constants import FUNCTION
from ..errors import KernelRefused
from ..program.blob import IDENTITY_DIGITS, OUR_NAME, name_from_program
from ..system.netlink.messages import Filter
from ..system.system import Bpf, Netlink
from .programs import Programs

CLSACT, TCX = "clsact", "tcx"
KINDS = (TCX, CLSACT)
DIRECTIONS = ("ingress", "egress")
BPF_FILTER = "bpf"
FAIL_CLOSED_IDENTITY = "0" * IDENTITY_DIGITS


class Hook(NamedTuple):
    """The place of one program. Priority and handle are those of a filter, and 0 for TCX."""

    ifindex: int
    direction: str
    priority: int
    handle: int
    kind: str = CLSACT


def tcx_hook(ifindex: int, direction: str) -> Hook:
    """Return the place of a TCX program."""
    return Hook(ifindex, direction, 0, 0, TCX)


class HookProgram(NamedTuple):
    """A program on a hook, or a filter without one. `kind` is "tcx", or the kind of a filter ("bpf", "u32").

    `follower` is the id of the TCX program that gets the packets next, 0 for none.
    """

    kind: str
    name: str
    program_id: int | None
    tag: str | None
    direct_action: bool = True
    priority: int = 0
    handle: int = 0
    follower: int = 0

    @property
    def hook_kind(self) -> str:
        """Return the kind of its hook."""
        return TCX if self.kind == TCX else CLSACT

    def __str__(self) -> str:
        """Return the program as findings name it."""
        if self.kind == TCX:
            return f"TCX program {self.program_id} {self.name}".rstrip()
        return f"{self.kind} filter at priority {self.priority} {self.name}".rstrip()


class Order(NamedTuple):
    """The place among TCX programs: before or after programs with these names or ids.

    `strict`: a program that stands elsewhere is moved. Otherwise the order holds for a new attachment alone.
    """

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    strict: bool = False

    def place_in(self, chain: Sequence[HookProgram]) -> int:
        """Return the index in a chain for a new program. Without a program of the order it is the end."""
        for index, entry in enumerate(chain):
            if is_named(entry, self.before):
                return index
        last = [index for index, entry in enumerate(chain) if is_named(entry, self.after)]
        return last[-1] + 1 if last else len(chain)

    def is_kept(self, chain: Sequence[HookProgram], place: int) -> bool:
        """Return whether the program at this index of a chain is in order."""
        is_late = any(is_named(entry, self.before) for entry in chain[:place])
        return not is_late and not any(is_named(entry, self.after) for entry in chain[place + 1 :])


def is_named(entry: HookProgram, names: Sequence[str]) -> bool:
    """Return whether an entry has one of these names or ids."""
    return entry.name in names or str(entry.program_id) in names


ANYWHERE = Order()


def from_filter(entry: Filter) -> HookProgram:
    """Return a filter as an entry of its hook."""
    return HookProgram(
        entry.kind, entry.name, entry.program_id, entry.tag, entry.direct_action, entry.priority, entry.handle
    )


def has_tcx(bpf: Bpf, ifindex: int, direction: str) -> bool:
    """Return whether the kernel has TCX."""
    return bpf.tcx_programs(ifindex, direction) is not None


def tcx_chain(bpf: Bpf, ifindex: int, direction: str, function: str = FUNCTION) -> list[HookProgram]:
    """Return the TCX programs of a hook in the order of their execution.

    A program of the function has the name that its filter would have, others have the kernel's name.
    """
    listed = bpf.tcx_programs(ifindex, direction)
    return [] if listed is None else programs_of(bpf, listed.ids, function)


def programs_of(bpf: Bpf, ids: Sequence[int], function: str) -> list[HookProgram]:
    """Return these TCX programs. One that was unloaded since the listing is left out."""
    found = []
    for number, follower in zip(ids, [*ids[1:], 0]):
        try:
            descriptor = bpf.program_by_id(number)
        except KernelRefused as refusal:
            if refusal.errno == errno.ENOENT:
                continue
            raise
        try:
            info = bpf.program_info(descriptor)
        finally:
            os.close(descriptor)
        name = name_from_program(function, info.name) or info.name
        found.append(HookProgram(TCX, name, number, info.tag, follower=follower))
    return found


def programs_on(
    bpf: Bpf, netlink: Netlink, ifindex: int, direction: str, function: str = FUNCTION
) -> list[HookProgram]:
    """Return everything on a hook, in the order of its execution."""
    return tcx_chain(bpf, ifindex, direction, function) + filters_on(netlink, ifindex, direction)


def filters_on(netlink: Netlink, ifindex: int, direction: str) -> list[HookProgram]:
    """Return the filters on a hook, in the order of their execution."""
    return [from_filter(entry) for entry in netlink.filters(ifindex, direction)]


def runs(entry: HookProgram, function: str) -> bool:
    """Return whether an entry has the name of a program of ours that runs this function."""
    named = OUR_NAME.fullmatch(entry.name)
    return entry.kind in (BPF_FILTER, TCX) and named is not None and named.group(1) == function


def is_ours(entry: HookProgram, programs: Programs, function: str) -> bool:
    """Return whether an entry runs this function by its name, and a TCX program of another function by its maps too."""
    if not runs(entry, function):
        return False
    return entry.kind != TCX or function == FUNCTION or programs.has_map_of(entry.program_id)


def is_fail_closed(entry: HookProgram) -> bool:
    """Return whether an entry runs the fail_closed program."""
    return entry.name.endswith(f":{FAIL_CLOSED_IDENTITY}")
