# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The operation of tproxy_confirm."""

from __future__ import annotations

from ..commit_confirm.change import BEGUN, begin, confirm, rollback
from ..resources.lock import CONFIRMED, ROLLED_BACK
from ..resources.operation import Operation, Options, Result
from ..system.open_changes import open_for_changes
from ..system.system import System
from .execute import execute


def confirm_change(options: Options, system: System, check: bool) -> Result:
    """Begin a change, confirm it or roll it back. Return the values of tproxy_confirm."""
    operation = {BEGUN: begin, CONFIRMED: confirm, ROLLED_BACK: rollback}[options["state"]]
    return operation(options, system, check)


CONFIRM_CHANGE = Operation("tproxy_confirm", confirm_change, execute, opens=open_for_changes)
CONFIRM = Operation("confirm", confirm, execute)
ROLL_BACK = Operation("rollback", rollback, execute)
