# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The story of `tproxy-splicer watch`: what the kernel loses of the saved state is put back within a second.

It wakes when rtnetlink tells of something, waits until that has settled, and puts back what differs from the file: a
filter or qdisc that was deleted, an interface that was made anew, an address that changed, a flushed rule or table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..errors import TproxyError, Unconfirmed
from ..resources.restore_cache import RestoreCache
from ..system.system import System
from .restore import restore_state
from .state_file import UNSAVED, state_file_lock

# Of a processor it takes a fifth at the most, whatever happens: a look is followed by a rest of four times its length.
REST, REST_MAX = 4, 2 * 10**9
# An interface that is made is told of in a dozen messages.
QUIET_SECONDS, WAITS = 0.05, 10
# Nothing tells that a change was confirmed or taken back.
UNCONFIRMED_SECONDS = 5
UNCONFIRMED = "a change waits for its confirmation: nothing is put back until then"


def watch(options: Mapping, system: System, _check: bool) -> Iterator:
    """Yield a line for each thing that was put back or could not be, for as long as there are events."""
    with system.events() as events:
        last, cache = [], RestoreCache()
        while True:
            began = system.background.monotonic_ns()
            said = list(_repair(options, system, cache))
            ended = system.background.monotonic_ns()
            # What cannot be mended is said once, and not at each event.
            yield from (line for line in said if line not in last)
            last = said
            if UNCONFIRMED in said:
                events.wait(UNCONFIRMED_SECONDS)
            elif not events.wait(None):
                return
            system.background.sleep_until(ended + min(REST * (ended - began), REST_MAX))
            for _attempt in range(WAITS):
                if not events.wait(QUIET_SECONDS):
                    break


def _repair(options: Mapping, system: System, cache: RestoreCache) -> Iterator:
    """Put back what went, unless the file is not the truth; yield what was done."""
    if not system.files.exists(options["path"]):
        yield f"{options['path']} is gone: nothing is put back until tproxy_state has saved again"
        return
    try:
        with state_file_lock(system):
            if system.files.exists(UNSAVED):
                yield f"{options['path']} is older than what is in force: nothing is put back by it; run tproxy_state"
                return
            yield from restore_state({**options, "interface": None}, system, False, cache)["changes"]
    except Unconfirmed:
        yield UNCONFIRMED
    except TproxyError as fault:
        yield f"not put back: {fault}"
