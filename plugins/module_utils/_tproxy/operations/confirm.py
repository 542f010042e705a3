# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""operations.confirm."""

from __future__ import annotations

from collections.abc import Mapping

from ..commit_confirm.change import BEGUN, begin, confirm, rollback
from ..resources.pending import CONFIRMED, ROLLED_BACK
from ..system.system import System


def confirm_change(options: Mapping, system: System, check: bool) -> dict:
    """Begin a change, confirm it or roll it back. Returns what tproxy_confirm returns."""
    operation = {BEGUN: begin, CONFIRMED: confirm, ROLLED_BACK: rollback}[options["state"]]
    return operation(options, system, check)
