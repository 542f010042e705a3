# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The opening of a transaction: lock, pending change, netlink, and pins, after the migration of an older release.

The migration takes rules of every owner, policies, addresses and markers of the older release into maps of our layout.
The new maps are filled aside by a transaction and put in place with one rename, before the first change. Counters begin
at zero. See older_release.py for the old maps and filters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

from ..constants import FUNCTION
from ..system.system import Netlink, System
from .attachments import clsact_marker, clsact_markers
from .current_state import CurrentState
from .host_state import HostState
from .lock import lock, lock_for_change, refuse_without_capabilities
from .lost_pins import are_lost, recover
from .older_release import drop_older_pins, migration_is_due, migration_marker, older_pins
from .pins import Pins, other_pins, splicer_pins
from .rules import EMPTY
from .transaction import Transaction


@contextmanager
def open_transaction(
    system: System,
    pin_dir: str,
    check_mode: bool,
    mount: bool = True,
    token: str | None = None,
    function: str = FUNCTION,
    route_tables: Iterable[int] = (),
    ignore_damage: bool = False,
) -> Iterator[Transaction]:
    """Hold the pin folder for one change, and yield its transaction. See CurrentState for the last two parameters.

    With `mount` the operation needs a bpffs: one is mounted where there is none. `token` is that of the pending change
    that the operation belongs to. Another program than ours has a pin folder of its own below `pin_dir`.
    Raises Busy, NotMounted, Unconfirmed, Unsupported.
    """
    with ExitStack() as held:
        netlink = lazy_netlink(system, held)
        mount = mount or _lives_without_bpffs(system, netlink, pin_dir)
        pending = held.enter_context(lock_for_change(system, pin_dir, check_mode, mount, token))
        if function == FUNCTION:
            pins = migrated_pins(system, pin_dir, check_mode, netlink)
        else:
            pins = other_pins(system.bpf, system.bpffs, f"{pin_dir}/{function}")
        held.enter_context(pins)
        deadline = pending.deadline if pending else 0
        yield Transaction(
            system, netlink, pins, pin_dir, function, route_tables, ignore_damage=ignore_damage, deadline=deadline
        )


@contextmanager
def open_call(system: System, pin_dir: str, check_mode: bool, mount: bool = True) -> Iterator[Transaction]:
    """Yield the transaction of a call of an OpenZiti router, which changes rules of its own.

    It waits for no other run and for no pending change, unless maps must be made or migrated first.
    Raises Busy, NotMounted, Unsupported.
    """
    with ExitStack() as held:
        netlink = lazy_netlink(system, held)
        pins = held.enter_context(pins_for_call(system, pin_dir, check_mode, mount, netlink))
        yield Transaction(system, netlink, pins, pin_dir)


@contextmanager
def pins_for_call(
    system: System, pin_dir: str, check_mode: bool, mount: bool, netlink: Callable[[], Netlink]
) -> Iterator[Pins]:
    """Yield the pins for a call. The lock for one run at a time is held only if maps must be made or migrated."""
    refuse_without_capabilities(system)
    system.bpffs.refuse_foreign(pin_dir)
    with ExitStack() as held:
        pins = splicer_pins(system.bpf, system.bpffs, pin_dir)
        if not pins.complete or older_pins(system, pin_dir) is not None:
            mount = mount or _lives_without_bpffs(system, netlink, pin_dir)
            held.enter_context(lock(system, pin_dir, check_mode, mount))
            pins = migrated_pins(system, pin_dir, check_mode, netlink)
        yield held.enter_context(pins)


def _lives_without_bpffs(system: System, netlink: Callable[[], Netlink], pin_dir: str) -> bool:
    """Return whether the bpffs is gone below a program that still runs: then a removal needs one, too."""
    refuse_without_capabilities(system)
    return not system.bpffs.is_mounted(pin_dir) and are_lost(system, netlink, pin_dir)


def lazy_netlink(system: System, held: ExitStack) -> Callable[[], Netlink]:
    """Return a function that opens netlink at its first call. `held` closes it."""

    @functools.cache
    def opened() -> Netlink:
        return held.enter_context(system.netlink())

    return opened


# ---- migration ----------------------------------------------------------------------------


def migrated_pins(system: System, pin_dir: str, check_mode: bool, netlink: Callable[[], Netlink]) -> Pins:
    """Return our pins after the migration of an older release; in check mode the pins of that release.

    Check mode only reads, and the older maps can be read as ours. Living maps that lost their pins are pinned first.
    """
    pins, older = splicer_pins(system.bpf, system.bpffs, pin_dir), older_pins(system, pin_dir)
    recover(system, netlink, pins, check_mode)
    if older is None:
        return pins
    source = CurrentState(system, netlink, older)
    if not migration_is_due(source, pins):
        older.close()
        return pins
    older.check()
    if check_mode:
        return older
    with older:
        _migrate(source, pins, pin_dir, netlink)
    drop_older_pins(system, pin_dir)
    return pins


def _migrate(source: CurrentState, pins: Pins, pin_dir: str, netlink: Callable[[], Netlink]) -> None:
    """Fill a set of maps aside, and put it in its place."""
    system = source.system
    pins.retire()
    pins.sweep()
    with Pins(system.bpf, system.bpffs, f"{pins.folder}_new", pins.shapes) as aside:
        aside.ensure()
        empty = EMPTY._replace(generation=source.rules.contents.generation - 1)  # so the generation stays the same
        transaction = Transaction(system, netlink, aside, pin_dir, empty=empty)
        desired = HostState(
            rules=source.rules.rules, addresses=source.addresses.entries, policies=source.policies.entries
        )
        transaction.write(transaction.plan(desired))
        for ifindex in clsact_markers(source.pins):
            aside.set_marker(clsact_marker(ifindex))
        aside.set_marker(migration_marker(source))
        aside.close()
        system.bpffs.rename(aside.folder, pins.folder)
