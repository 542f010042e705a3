# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The message classes of pyroute2, each imported at its first use.

`import pyroute2` loads all of its 280 modules, in 240 ms of processor time. One message class and what it needs take
30 to 60 ms. So an empty package stands in the place of pyroute2 while a class is imported. The modules of release 0.6
are in other packages: there, and where pyroute2 is loaded already, the import is an ordinary one.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...errors import MissingLibrary

PACKAGE = "pyroute2"
OLDEST_LIBRARY = "pyroute2 0.5.14 or later"
REMEDY = "install python3-pyroute2 for the system's own Python, or pyroute2 for the one in use"
# Types come in blocks of four with one layout (RTM_FAM of rtnetlink.h).
CLASSES = {16: "ifinfmsg", 20: "ifaddrmsg", 24: "rtmsg", 28: "ndmsg", 32: "fibmsg", 36: "tcmsg", 44: "tcmsg"}


def class_of(kind: int) -> Any:
    """Return the class of a type of messages. Raises MissingLibrary."""
    return _class(CLASSES[kind & ~3])


@functools.cache
def _class(name: str) -> Any:
    try:
        return getattr(_module(f"{PACKAGE}.netlink.rtnl.{name}"), name)
    except ImportError:
        raise MissingLibrary(OLDEST_LIBRARY, REMEDY, {"traceback": traceback.format_exc()}) from None


def _module(name: str) -> Any:
    """Import a module of pyroute2, without the rest of pyroute2 where that is possible."""
    spec = None if PACKAGE in sys.modules else importlib.machinery.PathFinder.find_spec(PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        return importlib.import_module(name)
    before = set(sys.modules)
    try:
        with _empty_package(spec.submodule_search_locations):
            return importlib.import_module(name)
    except ImportError:
        for loaded in set(sys.modules) - before:
            if loaded.startswith(f"{PACKAGE}."):
                del sys.modules[loaded]
        return importlib.import_module(name)


@contextmanager
def _empty_package(folders: list[str]) -> Iterator[None]:
    """Let a package without content stand for pyroute2 in the block. A later import loads the real one."""
    spec = importlib.machinery.ModuleSpec(PACKAGE, None, is_package=True)
    spec.submodule_search_locations = folders
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules[PACKAGE]
