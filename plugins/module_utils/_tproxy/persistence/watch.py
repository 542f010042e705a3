# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The watcher of `tproxy-splicer watch`: it restores parts of the saved state that the kernel loses, within a second.

It wakes at events of rtnetlink, waits until they end, and restores the differences from the file: a filter or qdisc
that was deleted, an interface that was created again, an address that changed, a flushed policy rule or table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ..errors import TproxyError, Unconfirmed
from ..resources.operation import Options
from ..resources.restore import RestoreCache
from ..system.system import System
from .restore import restore_state
from .state_file import UNSAVED, state_file_lock

# The watcher takes at most a fifth of a processor: after each look it rests four times as long.
REST, REST_MAX = 4, 2 * 10**9
# The creation of an interface sends a dozen messages.
QUIET_SECONDS, WAITS = 0.05, 10
# No event tells that a change was confirmed or rolled back.
UNCONFIRMED_SECONDS = 5
UNCONFIRMED = "a change waits for confirmation: nothing is put back until then"


def watch(
    options: Options, system: System, _check_mode: bool, finish: Callable[[], Iterable[str]] = tuple
) -> Iterator[str]:
    """Yield a line for each part that was restored or could not be, as long as there are events.

    `finish` rolls back a change past its deadline, and returns a line if there was one.
    """
    with system.events() as events:
        last: list[str] = []
        cache = RestoreCache()
        while True:
            began = system.background.monotonic_ns()
            found = list(_repair(options, system, cache, finish))
            ended = system.background.monotonic_ns()
            # A failure that lasts is reported once, not at each event.
            yield from (line for line in found if line not in last)
            last = found
            if UNCONFIRMED in found:
                events.wait(UNCONFIRMED_SECONDS)
            elif not events.wait(None):
                return
            system.background.sleep_until(ended + min(REST * (ended - began), REST_MAX))
            for _attempt in range(WAITS):
                if not events.wait(QUIET_SECONDS):
                    break


def _repair(
    options: Options, system: System, cache: RestoreCache, finish: Callable[[], Iterable[str]]
) -> Iterator[str]:
    """Restore the file unless it is outdated; yield one line for each change or failure."""
    try:
        yield from finish()
    except TproxyError as fault:
        yield f"not rolled back: {fault}"
    if not system.files.exists(options["path"]):
        yield f"{options['path']} is gone: nothing is put back until tproxy_state has saved again"
        return
    try:
        with state_file_lock(system):
            if system.files.exists(UNSAVED):
                yield f"{options['path']} is older than the state in force: it restores nothing; run tproxy_state"
                return
            yield from restore_state({**options, "interface": None}, system, False, cache).data["changes"]
    except Unconfirmed:
        yield UNCONFIRMED
    except TproxyError as fault:
        yield f"not put back: {fault}"
