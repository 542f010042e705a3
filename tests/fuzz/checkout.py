# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the checkout that this file lies in importable as ansible_collections.netedge.tproxy, and no other one.

Import it first: a mutant is judged by the rooms of its own scratch copy.
"""

from __future__ import annotations

import pathlib
import sys
import types

COLLECTION = "ansible_collections.netedge.tproxy"
ROOT = pathlib.Path(__file__).resolve().parents[2]


def register() -> None:
    """Enter the collection and its parents as packages; whatever lies below is found by their paths."""
    parents = COLLECTION.split(".")
    for depth in range(1, len(parents) + 1):
        name = ".".join(parents[:depth])
        package = types.ModuleType(name)
        package.__path__ = [str(ROOT)] if name == COLLECTION else []
        sys.modules.setdefault(name, package)


register()
