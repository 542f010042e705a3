# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that an SSH session started: the kernel shows only the environment at the start of a process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import procfs
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.system import System


class Visitors:
    """The adapter to processes of this machine, with an SSH session."""

    def __init__(self, session: tuple):
        self._session = session

    def __getattr__(self, name: str):
        return getattr(procfs, name)

    def ssh_connection(self) -> tuple:
        return self._session


def visited(system: Callable[[], System], *session: str) -> Callable[[], System]:
    """Return the opener of the system of a run with an SSH session: the words of SSH_CONNECTION."""
    return lambda: replace(system(), processes=Visitors(session))
