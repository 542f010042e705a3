# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What one look leaves for the next: the state in a file, and how the rules in force stood when they were right.

To read 20,000 rules takes seconds from the file and some 100 ms from an image, and an interface that flaps makes a
watcher look several times a second. So both are read again only when they have changed. An image is known by its
number, its header and the digest of its words, so an edit by hand counts as a change, too.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..model.saved_state import SavedState, decode_state
from ..program.blob import blob_from_json
from ..program.select import Wanted, of_blob
from .rules import RuleTable


class RestoreCache:
    """The state in a file as it was read last; None before that."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._text, self._state, self._wanted = None, None, None
        self._right, self._named = None, {}

    def read(self, text: str) -> SavedState:
        """Return the state that a text holds. Raises as decode_state()."""
        if text != self._text:
            self._forget()
            self._state, self._text = decode_state(text), text
        return self._state

    def wanted(self, state: SavedState) -> Wanted:
        """Return the program of a state."""
        if self._wanted is None or state is not self._state:
            self._state, self._wanted = state, of_blob(blob_from_json(state.blob), False)
        return self._wanted

    def is_right(self, table: RuleTable) -> bool:
        """Whether the rules in force are those of which right() was told, for the same interfaces."""
        return self._right is not None and self._right == self._stand(table)

    def right(self, table: RuleTable, rules: Iterable) -> None:
        """Remember that these rules are in force, and are as the state wants them."""
        self._named = {rule.interfaces: rule for rule in rules if rule.interfaces}
        self._right = self._stand(table)

    def _stand(self, table: RuleTable) -> tuple:
        return table.stamp(), table.ifindexes(self._named.values())
