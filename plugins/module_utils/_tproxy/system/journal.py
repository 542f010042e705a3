# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Adapter to the journal: one datagram for each entry, to journald, or to syslog where there is no journald.

A host without both has no audit trail. A change never fails, and never waits, because of the journal.
"""

from __future__ import annotations

import os
import socket
import syslog
from collections.abc import Mapping

JOURNALD, SYSLOG = "/run/systemd/journal/socket", "/dev/log"
IDENTIFIER = "tproxy-splicer-audit"
LINE_LENGTH = 2000
LOGIN_USER = "/proc/self/loginuid"
UNSET = 2**32 - 1  # no user has logged in to start this process


def record(text: str, fields: Mapping[str, str]) -> None:
    """Write one line with named fields. Syslog gets the line alone."""
    line = _printable(text)
    entry = {"MESSAGE": line, "PRIORITY": str(syslog.LOG_NOTICE), "SYSLOG_IDENTIFIER": IDENTIFIER, **fields}
    native = "".join(f"{name}={_printable(value)}\n" for name, value in entry.items())
    if not _send(JOURNALD, native):
        _send(SYSLOG, f"<{syslog.LOG_AUTHPRIV | syslog.LOG_NOTICE}>{IDENTIFIER}[{os.getpid()}]: {line}")


def _send(path: str, text: str) -> bool:
    """Send a datagram; return False if no process takes it now."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(text.encode("utf-8", "replace"), socket.MSG_DONTWAIT, path)
    except OSError:
        return False
    return True


def _printable(text: str) -> str:
    """Return a text of any origin as one line of limited length, so that it cannot forge another line or field."""
    return "".join(each if each.isprintable() else "?" for each in text[:LINE_LENGTH])


def login_user() -> int | None:
    """Return the number of the user that logged in; su and sudo keep it. None for a service, or without audit."""
    try:
        with open(LOGIN_USER, encoding="ascii") as file:
            number = int(file.read())
    except (OSError, ValueError):
        return None
    return None if number == UNSET else number
