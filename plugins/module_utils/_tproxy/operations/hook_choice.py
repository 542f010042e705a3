# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The choice of a hook for tc_bpf_attach and tproxy_router: TCX or clsact, the order among TCX programs, the tracker.

`auto` takes TCX where the kernel has it, unless a foreign filter on the same hook would run behind our program instead
of before or after it as now. A program that is right stays where it is: a move alone is no reason for a change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import Conflict, Unsupported
from ..model.policy import Policy, WantedHook, policy_of
from ..program.blob import Blob
from ..resources.hooks import (
    ANYWHERE,
    CLSACT,
    TCX,
    Hook,
    HookProgram,
    Order,
    has_tcx,
    is_named,
    programs_on,
    runs,
    tcx_hook,
)
from ..resources.interfaces import for_link
from ..resources.older_release import older_attachments
from ..resources.trackers import obstacle_to_tracker
from ..resources.transaction import Transaction
from ..system.netlink.messages import Link


def named_filter(asked: WantedHook, link: Link) -> Hook:
    """Return the hook of a filter at the priority and handle that are asked for."""
    return Hook(link.ifindex, asked.direction, asked.priority, asked.handle)


def hook_at_place(asked: WantedHook, transaction: Transaction, link: Link) -> Hook | None:
    """Return the hook with our program: TCX, or the named filter. It needs no pins."""
    places = (tcx_hook(link.ifindex, asked.direction), named_filter(asked, link))
    return next((hook for hook in places if transaction.point(hook).program() is not None), None)


def hook_that_stands(asked: WantedHook, transaction: Transaction, link: Link) -> Hook | None:
    """Return the hook where our program stands now, None without one. TCX comes first, as its packets do."""
    found = hook_at_place(asked, transaction, link)
    if found is not None:
        return found
    if transaction.is_splicer:
        return next((each.hook for each in transaction.current.attachments if each.link.ifindex == link.ifindex), None)
    return None


def choose(asked: WantedHook, transaction: Transaction, link: Link, blob: Blob | None, stays: Hook | None) -> Hook:
    """Return the hook for the program. `stays` is the hook where this very program stands already.

    Raises Unsupported for TCX on a kernel that has none, or for a program that could not be recognised there.
    """
    tcx, clsact = tcx_hook(link.ifindex, asked.direction), named_filter(asked, link)
    if asked.kind == CLSACT:
        return clsact
    if asked.kind != TCX and not asked.is_ordered:
        return _automatic(transaction, tcx, clsact, blob, stays)
    _refuse_tcx(transaction, tcx, blob)
    return tcx


def _automatic(transaction: Transaction, tcx: Hook, clsact: Hook, blob: Blob | None, stays: Hook | None) -> Hook:
    if stays is not None:
        return tcx if stays.kind == TCX else clsact
    bpf, netlink = transaction.system.bpf, transaction.netlink
    if not has_tcx(bpf, tcx.ifindex, tcx.direction) or not _is_recognised(transaction, blob):
        return clsact
    entries = programs_on(bpf, netlink, tcx.ifindex, tcx.direction, transaction.function)
    overtaken = any(entry.kind != TCX and not runs(entry, transaction.function) for entry in entries)
    return clsact if overtaken else tcx


def _refuse_tcx(transaction: Transaction, tcx: Hook, blob: Blob | None) -> None:
    if not has_tcx(transaction.system.bpf, tcx.ifindex, tcx.direction):
        release = transaction.system.sysctl.kernel_release()
        raise Unsupported(f"hook: kernel {release} has no TCX, which came with Linux 6.6; use hook: auto or clsact")
    if not _is_recognised(transaction, blob):
        raise Unsupported(
            f"hook: {transaction.function} has no map, so a later run could not recognise it among TCX programs; use"
            " hook: clsact"
        )


def _is_recognised(transaction: Transaction, blob: Blob | None) -> bool:
    """Return whether a TCX program can be told from foreign ones: ours by its name, others by their maps."""
    return transaction.is_splicer or blob is None or bool(blob.maps)


def order_of(asked: WantedHook, transaction: Transaction, link: Link, hook: Hook) -> Order:
    """Return the order that a user asks for. Raises Conflict for a program that is not on the hook."""
    if not asked.is_ordered:
        return ANYWHERE
    entries = programs_on(
        transaction.system.bpf, transaction.netlink, hook.ifindex, hook.direction, transaction.function
    )
    others = [entry for entry in entries if entry.kind == TCX and not runs(entry, transaction.function)]
    name = asked.before or asked.after
    if not any(is_named(entry, [name]) for entry in others):
        option = "before" if asked.before else "after"
        raise Conflict(
            f"{option}: {name} is no TCX program on {hook.direction} of {link.name}; there"
            f" {_listed(others)}; nothing was changed"
        )
    return Order((asked.before,) if asked.before else (), (asked.after,) if asked.after else (), strict=True)


def _listed(entries: list[HookProgram]) -> str:
    if not entries:
        return "is no foreign one"
    return "are " + ", ".join(f"{entry.name} (id {entry.program_id})" for entry in entries)


def elsewhere(asked: WantedHook, transaction: Transaction, link: Link, hook: Hook) -> list[Hook]:
    """Return the other hooks of the interface where this program must not stand.

    The policy belongs to the interface, and two instances of our own program would process each packet twice. A program
    that lost its pins is found at the named priority and among TCX programs. A killed run may have left a qdisc there.
    """
    found = [tcx_hook(link.ifindex, asked.direction), named_filter(asked, link)]
    if transaction.is_splicer:
        older = older_attachments(transaction.system, transaction.netlink, transaction.pin_dir)
        ours = [*transaction.current.attachments, *older]
        found += [each.hook for each in ours if each.link.ifindex == link.ifindex]
    return [other for other in dict.fromkeys(found) if other != hook]


def policy_on(
    hook: Hook, link: Link, given: Mapping[str, Any] | None, transaction: Transaction, blob: Blob | None
) -> Policy:
    """Return the policy of an interface for the program on its hook, without the mark. `blob` is that of the program.

    It has the given fields. If `given` is None, it is the one in force, else the default.
    """
    policy = transaction.current.policies.entries.get(link.ifindex)
    if policy is None or given is not None:
        policy = _given_policy(hook, given or {}, transaction, blob)
    return replace(for_link(policy, link), damaged=False, deadline=transaction.deadline)


def _given_policy(hook: Hook, given: Mapping[str, Any], transaction: Transaction, blob: Blob | None) -> Policy:
    """Return the policy of the given fields.

    Without `track`, an interface that is closed tracks the flows of this host, if its egress hook can be had.
    """
    policy = policy_of(given)
    if "track" in given or policy.track == "none" or not obstacle_to_tracker(transaction.current, hook, blob):
        return policy
    return replace(policy, track="none")
