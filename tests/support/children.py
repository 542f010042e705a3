# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Child processes that run an operation and report its result."""

from __future__ import annotations

import multiprocessing

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import TproxyError

FORK = multiprocessing.get_context("fork")


class Child:
    """A process that runs `operation` and reports its result: a value, or the error."""

    def __init__(self, operation):
        self._mine, theirs = FORK.Pipe()
        self.process = FORK.Process(target=self._run, args=(operation, theirs))
        self.process.start()

    @staticmethod
    def _run(operation, pipe) -> None:
        try:
            pipe.send(operation())
        except TproxyError as error:
            pipe.send(f"{type(error).__name__}: {error}")

    def has_answered_within(self, seconds: float) -> bool:
        """Say whether it has ended, or ends while one waits."""
        return self._mine.poll(seconds)

    def answer(self):
        """Wait for the end."""
        found = self._mine.recv()
        self.process.join()
        return found
