# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the checkout importable as ansible_collections.netedge.tproxy, unless it is so already (ansible-test)."""

from __future__ import annotations

import importlib.util
import pathlib
import sys
import types

COLLECTION = "ansible_collections.netedge.tproxy"
ROOT = pathlib.Path(__file__).resolve().parents[2]


def _is_importable() -> bool:
    try:
        return importlib.util.find_spec(COLLECTION) is not None
    except ModuleNotFoundError:
        return False


def _register() -> None:
    """Enter the collection and its parents as packages; whatever lies below is found by their paths."""
    parents = COLLECTION.split(".")
    for depth in range(1, len(parents) + 1):
        name = ".".join(parents[:depth])
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__ = [str(ROOT)] if name == COLLECTION else []
            sys.modules[name] = package


if not _is_importable():
    _register()
