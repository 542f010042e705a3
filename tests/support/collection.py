# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the checkout of this file importable as ansible_collections.netedge.tproxy.

A script runs this file by its path before it imports anything of the collection:
runpy.run_path("tests/support/collection.py")["register"]()
"""

from __future__ import annotations

import importlib.util
import pathlib
import sys
import types

COLLECTION = "ansible_collections.netedge.tproxy"
ROOT = pathlib.Path(__file__).resolve().parents[2]


def is_importable() -> bool:
    """Return whether Python finds a collection of this name, which may be another copy of it."""
    try:
        return importlib.util.find_spec(COLLECTION) is not None
    except ModuleNotFoundError:
        return False


def register() -> None:
    """Register the collection and its parents as packages, so that Python finds every module by their paths.

    A mutant must be tested with the modules of its own copy, so an installed collection is never used.
    """
    parents = COLLECTION.split(".")
    for depth in range(1, len(parents) + 1):
        name = ".".join(parents[:depth])
        package = types.ModuleType(name)
        package.__path__ = [str(ROOT)] if name == COLLECTION else []
        sys.modules[name] = package
