# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The names of the program's reasons, from the layout."""

from __future__ import annotations

from . import _layout as layout

REASON_NAMES = {
    number: name[len("REASON_") :].lower()
    for name, number in vars(layout).items()
    if name.startswith("REASON_") and name != "REASON_COUNTERS"
}
