# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Release 0.1: its own program, and a copy of this release with its layout, image format, rules and interface groups.

Few interfaces stand in their home slots in both layouts.
"""

from __future__ import annotations

import importlib
import itertools
import pathlib
import re
import shutil
import sys
import types

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import layout
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.router import Router

SOURCES = pathlib.Path(layout.__file__).parents[1]
PACKAGE = "netedge_tproxy_older_release"


def copy_package(folder: pathlib.Path) -> None:
    """Make the older release importable, its files in a folder."""
    shutil.copytree(SOURCES, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    _set_back(folder / "abi" / "layout.py", ("LAYOUT", 2), ("IMAGE_FORMAT", 2), ("GROUP_PAGES", 1), *PLACES)
    _set_back(folder / "ruleset" / "groups.py", ("GOLDEN", 1))
    _shorten_tables(folder / "abi" / "layout.py")
    _remove_maps(folder / "abi" / "layout.py")
    _single_counters(folder)
    _remove_listener(folder / "ruleset" / "records.py")
    package = types.ModuleType(PACKAGE)
    package.__path__ = [str(folder)]
    sys.modules[PACKAGE] = package


# The place of an interface in page 1 is its ifindex modulo PAIRS_PER_PAGE.
PLACES = (("GROUP_PAGE_SHIFT", 32), ("GROUP_PAIR_SHIFT", 0))


def _set_back(path: pathlib.Path, *constants: tuple[str, int]) -> None:
    """Write other values of constants."""
    text = path.read_text(encoding="utf-8")
    for name, value in constants:
        text, found = re.subn(rf"^{name} = \w+", f"{name} = {value}", text, flags=re.M)
        assert found == 1, name
    path.write_text(text, encoding="utf-8")


def _shorten_tables(path: pathlib.Path) -> None:
    """Give policies 16 management entries, and interfaces 32 recorded addresses."""
    _set_back(path, ("MANAGEMENT", 16), ("ADDRESSES", 32))
    for here, then in (
        ('"policy": (\n        1568,', '"policy": (\n        416,'),
        ('"management": (32, 1536)', '"management": (32, 384)'),
        ('"interface_addresses": (\n        2072,', '"interface_addresses": (\n        536,'),
        ('"address": (24, 2048)', '"address": (24, 512)'),
        ("(2, 4, 1568, 512, 0)", "(2, 4, 416, 512, 0)"),
        ("(2, 4, 2072, 256, 0)", "(2, 4, 536, 256, 0)"),
    ):
        _replace(path, here, then)


NEW_MAPS = (
    "displaced",
    "own_addresses",
    "reserved_ports",
    "session_cache",
    "flows_own",
    "flows_forwarded",
    "flows_outside",
    "fragments",
    "listeners",
    "wanted_sockets",
    "drops",
    "drop_budget",
)


def _remove_maps(path: pathlib.Path) -> None:
    """Remove the maps that 0.1 lacks from MAPS. The placeholders of the maps after each go down by one."""
    above, maps = path.read_text(encoding="utf-8").split("MAPS = {\n")
    lines = [line for line in maps.splitlines() if not line.startswith(tuple(f'    "{name}"' for name in NEW_MAPS))]
    slots = itertools.count(int(re.search(r"\((\d+), \(", lines[0]).group(1)))
    lines = [re.sub(r": \(\d+", lambda _slot: f": ({next(slots)}", line) for line in lines]
    path.write_text(above + "MAPS = {\n" + "\n".join(lines) + "\n", encoding="utf-8")


def _single_counters(folder: pathlib.Path) -> None:
    """Give each outcome and each rule a per-CPU entry of its own. Answers of the copy have no counts then."""
    layout = folder / "abi" / "layout.py"
    _replace(layout, "6, 4, 960, 257, ", "6, 4, 16, 8224, ")
    _replace(layout, "2, 4, 16, 8192, 1024", "6, 4, 16, 131072, 0")
    _replace(folder / "resources" / "pins.py", 'GROWING = ("hits",)', "GROWING = ()")
    counters, mapped = folder / "resources" / "hit_counters.py", "bpf.mapped_memory(descriptor, size, True) as memory, "
    _replace(counters, mapped, "")
    _replace(counters, "memoryview(memory) as octets", "memoryview(bytearray(size)) as octets")


def _remove_listener(path: pathlib.Path) -> None:
    """Remove the listener and its user, which 0.1 lacks, from the records of rules."""
    _replace(path, 'RECORD = struct.Struct("<17s17s3H3Bx5IQI")', 'RECORD = struct.Struct("<17s17s3H3Bx5I")')
    _replace(path, "        rule.listener or 0,\n        rule.user or 0,\n    )", "    )")


def _replace(path: pathlib.Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new), encoding="utf-8")


def older_blob():
    """Return the program of release 0.1, as BCC compiled it."""
    text = (pathlib.Path(__file__).parent / "release_0_1.json").read_text(encoding="utf-8")
    return importlib.import_module(f"{PACKAGE}.program.blob").blob_from_json(text)


class OlderRouter(Router):
    """The operations of the older release, on the same machine and pins."""

    def _run(self, operation, module: str, check: bool, **given) -> dict:
        module_of = importlib.import_module(f"{PACKAGE}.{operation.__module__.partition('._tproxy.')[2]}")
        system = importlib.import_module(f"{PACKAGE}.system.open_all").open_system()
        result = getattr(module_of, operation.__name__)(options(module, pin_dir=self.pin_dir, **given), system, check)
        return result.as_dict()
