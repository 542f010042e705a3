# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What the helper writes to the journal: a line for each change and each refusal, as long as they are few.

journald drops what comes too fast, the lines that matter among it (journald.conf(5): 10,000 in 30 s), and a router that
starts makes 20,000 changes. So in a period some changes and some refusals are told one by one. What goes beyond is
counted for each user, and told as a sum with the first line after it, or when the helper is idle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Callable

INFO, WARNING = "<6>", "<4>"  # sd-daemon(3)
PERIOD = 10 * 10**9
LINES_PER_PERIOD = 20  # of each level
LINE_LENGTH = 400


class ServiceLog:
    """The lines to write. `monotonic_ns` is the clock."""

    def __init__(self, monotonic_ns: Callable[[], int]):
        self._clock, self._period_ends = monotonic_ns, 0
        self._told, self._untold = Counter(), Counter()

    def answered(self, user: int, words: str, answer) -> list:
        """Tell what a user asked for and was answered: nothing where nothing was changed or refused."""
        if answer.status:
            return self._tell(WARNING, f"uid {user}", "refused", f"{answer.line} (asked for: {words})")
        return self._tell(INFO, f"uid {user}", "done", words) if answer.changed else []

    def collected(self, rules: Iterable) -> list:
        """Tell which rules were removed since their listener is gone."""
        told = [self._tell(WARNING, "garbage", "removed", f"{rule}") for rule in rules]
        return [line for lines in told for line in lines]

    def failed(self, fault: str) -> list:
        """Tell what went wrong that nobody asked for."""
        return self._tell(WARNING, "garbage", "not collected", fault)

    def sums(self) -> list:
        """Tell how much was not told one by one."""
        untold, self._untold = self._untold, Counter()
        return [f"{INFO}{who}: {count} more {what}" for (who, what), count in sorted(untold.items())]

    def _tell(self, level: str, who: str, what: str, line: str) -> list:
        lines = []
        if self._clock() >= self._period_ends:
            lines = self.sums()
            self._told.clear()
            self._period_ends = self._clock() + PERIOD
        self._told[level] += 1
        if self._told[level] > LINES_PER_PERIOD:
            self._untold[who, what] += 1
            return lines
        return [*lines, f"{level}{who}: {what}: {_printable(line)}"]


def _printable(text: str) -> str:
    """Return a text of any origin as one line that is no other line's, nor too long."""
    return "".join(each if each.isprintable() else "?" for each in text[:LINE_LENGTH])
