# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The self-test of the diverter: whether the calls of this user will be executed.

A router calls `-V` once, when it starts, and logs the answer. It ends after another status than 0. So
the test only tells, changes nothing and ends in time.
"""

from __future__ import annotations

import errno
from typing import Callable, NamedTuple

from ..errors import KernelRefused

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module with these types imports every adapter, and a router waits
    from ..system.system import Requests

SECONDS = 1.5  # for the answer of the helper; a router gets its own within 2 s
GROUPS = "/etc/group"
NO_SOCKET = (errno.ENOENT, errno.ECONNREFUSED)
NO_ANSWER = (errno.ETIMEDOUT, errno.EAGAIN, errno.ECONNRESET, errno.EPIPE)


class Reach(NamedTuple):
    """The way of a client to the helper. `step` is the one that failed: socket, connect or answer; "" for none.

    `error` is its errno, and `group` the number of the group of the socket file, -1 without that file.
    """

    step: str
    error: int = 0
    group: int = -1


def self_test(
    requests: Requests, path: str, is_privileged: Callable[[], bool], read: Callable[[str], str | None]
) -> str:
    """Return what will happen to calls: `helper: reachable`, or why not. `path` is the socket; "" turns it off.

    The functions are called if the helper is not reachable: `read` returns the content of a file.
    """
    try:
        reached = Reach(*requests.reach(path, SECONDS)) if path else Reach("connect", errno.ENOENT)
        return f"helper: {_told(reached, path, is_privileged, read)}"
    except Exception as fault:  # pylint: disable=broad-exception-caught # a router would end
        return f"helper: unknown, the self-test failed: {type(fault).__name__}: {fault}"


def _told(reached: Reach, path: str, is_privileged: Callable[[], bool], read: Callable[[str], str | None]) -> str:
    if not reached.step:
        return "reachable"
    why = _reason(reached, path, read)
    if reached.step == "answer" or reached.error in NO_ANSWER:  # a call waits for it
        return f"not reachable, {why}"
    if _is_sure(is_privileged):
        return f"not reachable, {why}; calls of this user work without it, in some 0.2 s each"
    return f"not reachable, {why}; calls of this user are refused"


def _is_sure(is_privileged: Callable[[], bool]) -> bool:
    """Return whether this user has the rights. A profile of AppArmor may forbid the question."""
    try:
        return is_privileged()
    except KernelRefused:
        return False


def _reason(reached: Reach, path: str, read: Callable[[str], str | None]) -> str:
    """Return the reason with the remedy."""
    if not path:
        return "TPROXY_SPLICER_HELPER turns it off"
    if reached.step == "socket":
        return "this process may not use AF_UNIX: add it to RestrictAddressFamilies of the router's unit"
    if reached.error in NO_SOCKET:
        return f"no process listens at {path}: install it by the role (tproxy_splicer_helper)"
    if reached.error == errno.EACCES:
        group = _group_name(reached.group, read)
        return f"this user is not in its group {group}: add it (usermod -aG {group} USER) and restart the router"
    if reached.step == "answer" or reached.error in NO_ANSWER:
        return f"it does not answer within {SECONDS:g} s: see journalctl -u tproxy-splicer-helper"
    return f"{errno.errorcode.get(reached.error, reached.error)} at {path}"


def _group_name(number: int, read: Callable[[str], str | None]) -> str:
    """Return the name of a group. The file alone is read: a directory service may take longer than the router waits."""
    for line in (read(GROUPS) or "").splitlines():
        name, _password, gid = (*line.split(":"), "", "")[:3]
        if gid == str(number):
            return name
    return str(number)
