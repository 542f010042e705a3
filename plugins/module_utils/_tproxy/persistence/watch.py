# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The watcher of `tproxy-splicer watch`: it restores parts of the saved state that the kernel loses, within a second.

It wakes at events of rtnetlink and at mounts, waits until they end, and restores the differences from the file: a
filter or qdisc that was deleted, an interface that was created again, an address that changed, a flushed policy rule or
table, a bpffs that was unmounted. The kernel announces no change of TCX programs, so the watcher asks for them once a
second, with two system calls for each interface.

Addresses on lo do not wake it. An OpenZiti router adds one for each service, and only recorded ones count.

No event announces that a change of rules begins to wait for confirmation, or that its deadline has passed. So the
watcher looks for such a change between events, and rolls it back if its watchdog has not done so.

The watcher outlives a broken disk. It restores from the state that a run could not save (state_file.py), and saves that
state when it can. After a run that was killed before it had saved, it saves the state in force itself. If it cannot
read the file any more, it restores from the state that it read before.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from ..constants import UNSAVED, WATCHER_CHANGES, WATCHER_LOCK
from ..errors import KernelRefused, NotMounted, TproxyError, Unconfirmed
from ..model.saved_state import SavedState
from ..resources.hooks import DIRECTIONS, KINDS, TCX
from ..resources.host_addresses import follow_host_addresses
from ..resources.lock import pending_change, state_file_lock
from ..resources.operation import Options, Result
from ..resources.pins import splicer_pins
from ..resources.reserved_ports import ReservedPortsWatch
from ..resources.restore import RestoreCache
from ..system.bpf import TcxPrograms
from ..system.system import Events, System
from .restore import restore_known, restore_state
from .socket_lookups import SocketLookups
from .state_file import (
    REFUSED_STATE,
    forget_unsaved,
    save_after_kill,
    save_refused,
    state_after_kill,
    watcher_changes,
)

# The watcher takes at most a fifth of a processor: after each look it rests four times as long.
REST, REST_MAX = 4, 2 * 10**9
# The own addresses follow each event; a flood of them takes at most half of a processor.
ADDRESSES_REST, ADDRESSES_REST_MAX = 1, 5 * 10**7
# The creation of an interface sends a dozen messages.
QUIET_SECONDS, WAITS = 0.05, 10
# No event tells that a change was confirmed or rolled back, or that a disk has room again.
LOOK_AGAIN_SECONDS = 5
LOOK_SECONDS = 1.0
# After the deadline of a change, in which its watchdog rolls it back: that waits two seconds for a run.
WATCHDOG_NS = 3 * 10**9
UNCONFIRMED = "a change waits for confirmation: nothing is put back until then"


class Said(NamedTuple):
    """A line for the journal. One that `lasts` tells a condition, and is said again only after it has ended."""

    line: str
    lasts: bool = True


WAITS_FOR_CONFIRMATION = Said(UNCONFIRMED)


class Kept(NamedTuple):
    """The memory between two looks. `saved` is the time of the last change of the state file before it was read."""

    cache: RestoreCache
    lookups: SocketLookups
    ports: ReservedPortsWatch
    saved: int | None


def watch(
    options: Options, system: System, _check_mode: bool, finish: Callable[[], Iterable[str]] = tuple
) -> Iterator[str]:
    """Yield a line for each part that was restored or could not be, as long as there are events.

    `finish` rolls back a change past its deadline, and returns a line if there was one.
    """
    with system.files.show_running(WATCHER_LOCK), system.events() as events:
        last: list[Said] = []
        cache, lookups = RestoreCache(), SocketLookups(system, options["pin_dir"])
        ports = ReservedPortsWatch(system, options["pin_dir"])
        _follow_addresses(options["pin_dir"], system)
        while True:
            ports.follow()
            saved = system.files.changed_at(options["path"])
            began = system.background.monotonic_ns()
            found = list(_repair(options, system, cache, finish))
            lookups.keep(cache.state.rules if cache.state else ())
            found += [Said(line) for line in lookups.work(_indexes(system, cache))]
            ended = system.background.monotonic_ns()
            _count_changes(system, found)
            yield from (said.line for said in found if not (said.lasts and said in last))
            last = found
            if WAITS_FOR_CONFIRMATION in found or system.files.exists(REFUSED_STATE):
                events.wait(LOOK_AGAIN_SECONDS)
            else:
                _wait(events, options, system, Kept(cache, lookups, ports, saved))
            _follow_addresses(options["pin_dir"], system)
            _rest(events, options["pin_dir"], system, ended + min(REST * (ended - began), REST_MAX))


def _count_changes(system: System, found: Iterable[Said]) -> None:
    """Add the changes to their number. It is for metrics only, so a full disk is no reason to stop."""
    changes = sum(not said.lasts for said in found)
    if changes:
        with suppress(KernelRefused):
            system.files.write(WATCHER_CHANGES, str(watcher_changes(system) + changes))


def _rest(events: Events, pin_dir: str, system: System, until: int) -> None:
    """Wait until a time, and then until events end. Meanwhile the own addresses follow each event."""
    while (left := until - system.background.monotonic_ns()) > 0 and events.wait(left / 10**9):
        _follow_addresses(pin_dir, system)
    system.background.sleep_until(until)
    for _attempt in range(WAITS):
        if not events.wait(QUIET_SECONDS):
            break
        _follow_addresses(pin_dir, system)


def _follow_addresses(pin_dir: str, system: System) -> None:
    """Bring the own addresses up to date, also while a change waits. If that fails, the next restoration says why."""
    began = system.background.monotonic_ns()
    pinned = splicer_pins(system.bpf, system.bpffs, pin_dir)
    with suppress(TproxyError), pinned as pins, system.netlink() as netlink:
        follow_host_addresses(system.bpf, pins, netlink)
    ended = system.background.monotonic_ns()
    if ended > began:
        system.background.sleep_until(ended + min(ADDRESSES_REST * (ended - began), ADDRESSES_REST_MAX))


def _wait(events: Events, options: Options, system: System, kept: Kept) -> None:
    """Wait for an event, another list of TCX programs, a change past its deadline, socket lookups or a saved state."""
    cache, lookups, ports, saved = kept
    before = _tcx_lists(system, cache)
    while not events.wait(LOOK_SECONDS):
        ports.follow()
        if _tcx_lists(system, cache) != before or _has_overdue_change(options["pin_dir"], system):
            break
        if lookups.have_work(_indexes(system, cache)) or system.files.changed_at(options["path"]) != saved:
            break


def _has_overdue_change(pin_dir: str, system: System) -> bool:
    """Return whether a change waits that its watchdog should have rolled back. A damaged record tells of none."""
    with suppress(TproxyError):
        pending = pending_change(system, pin_dir)
        return pending is not None and pending.is_over(system, WATCHDOG_NS)
    return False


def _indexes(system: System, cache: RestoreCache, hooks: Container[str] = KINDS) -> list[int]:
    """Return the index of each interface that the state attaches by these kinds of hooks, and that is there."""
    attachments = cache.state.attachments if cache.state is not None else ()
    indexes = [system.ifindex_of(entry.interface) for entry in attachments if entry.hook in hooks]
    return [index for index in indexes if index is not None]


def _tcx_lists(system: System, cache: RestoreCache) -> list[TcxPrograms | None]:
    """Return the TCX programs of each interface that the state attaches by TCX, in both directions."""
    there = _indexes(system, cache, (TCX,))
    return [system.bpf.tcx_programs(index, direction) for index in there for direction in DIRECTIONS]


def _repair(
    options: Options, system: System, cache: RestoreCache, finish: Callable[[], Iterable[str]]
) -> Iterator[Said]:
    """Save a state that waits for it, and restore the newest one; yield one line for each change or failure."""
    try:
        yield from (Said(line, lasts=False) for line in finish())
    except TproxyError as fault:
        yield Said(f"not rolled back: {fault}")
    path = options["path"]
    try:
        with state_file_lock(system):
            if not system.files.exists(path) and not system.files.exists(REFUSED_STATE):
                yield Said(f"{path} is gone: nothing is put back until tproxy_state has saved again")
                return
            if system.files.exists(UNSAVED):
                state = None
                if system.files.exists(REFUSED_STATE):
                    yield from _save_refused(path, system)
                else:
                    state = yield from _save_after_kill(options, system, cache)
                if state is not None:
                    yield from _lines(restore_known(state, system, False, cache))
                    return
                path = REFUSED_STATE if system.files.exists(REFUSED_STATE) else path
            yield from _lines(restore_state({**options, "path": path, "interface": None}, system, False, cache))
    except Unconfirmed:
        yield WAITS_FOR_CONFIRMATION
    except TproxyError as fault:
        yield Said(f"not put back: {fault}")
        _end_without_bpffs(options["pin_dir"], system)


def _end_without_bpffs(pin_dir: str, system: System) -> None:
    """Raise NotMounted if the bpffs is gone. The sandbox of the unit can mount none, but its next start does."""
    if not system.bpffs.is_mounted(pin_dir):
        raise NotMounted(f"{pin_dir} is in no bpffs: this process ends, and the next start of its unit mounts one")


def _save_after_kill(options: Options, system: System, cache: RestoreCache) -> Generator[Said, None, SavedState | None]:
    """Save the state of a run that was killed before it had saved. Return it if neither disk nor /run has room for it.

    Without maps, the file has the last state that is known, and it is restored.
    """
    path, state = options["path"], state_after_kill(options["pin_dir"], cache.state, system)
    if state is None:
        forget_unsaved(system.files)
        return None
    try:
        save_after_kill(state, system)
        yield Said(f"{path}: the state in force is saved now, which a run had not saved", lasts=False)
    except KernelRefused as fault:
        yield Said(f"{path} is older than the state in force, which cannot be saved: {fault}")
        return None if system.files.exists(REFUSED_STATE) else state
    return None


def _save_refused(path: str, system: System) -> Iterator[Said]:
    """Save the state that a run could not save, unless the disk still refuses it."""
    try:
        save_refused(system)
        yield Said(f"{path}: the last change is saved now", lasts=False)
    except TproxyError as fault:
        yield Said(f"{path} is older than the state in force, which {REFUSED_STATE} has until it can be saved: {fault}")


def _lines(result: Result) -> Iterator[Said]:
    yield from (Said(warning) for warning in result.warnings)
    yield from (Said(change, lasts=False) for change in result.data["changes"])
