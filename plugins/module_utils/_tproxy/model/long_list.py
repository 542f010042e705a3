# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""A list of options that is too long for Ansible, see ansible_module/long_lists.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class LongList(list[Any]):
    """A long list of options. Its reader puts the rules in their place, so that no run holds both.

    A second run of the same options, for example after the prediction of a pending change, finds the rules and the
    warnings about them.
    """

    def __init__(self, items: Iterable[Any]):
        super().__init__(items)
        self.warnings: list[str] = []
