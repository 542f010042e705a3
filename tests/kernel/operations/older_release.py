# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release with layout 1: a copy of this one, with layout, image format and shapes of its maps set back.

Its program looks for policies where layout 1 has them, since it asks for others past a deadline only.
"""

from __future__ import annotations

import importlib
import pathlib
import re
import shutil
import sys
import types

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import layout
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.older_release import OTHER_ENTRIES
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.router import Router

SOURCES = pathlib.Path(layout.__file__).parents[1]
PACKAGE = "netedge_tproxy_older_release"
LAYOUT = 1


def copy_package(folder: pathlib.Path) -> None:
    """Make the older release importable, its files in a folder."""
    shutil.copytree(SOURCES, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    generated = folder / "abi" / "layout.py"
    generated.write_text(set_back(generated.read_text(encoding="utf-8")), encoding="utf-8")
    package = types.ModuleType(PACKAGE)
    package.__path__ = [str(folder)]
    sys.modules[PACKAGE] = package


def set_back(text: str) -> str:
    """Return the text of layout.py as layout 1 has it."""
    text, layouts = re.subn(r"^(LAYOUT|IMAGE_FORMAT) = \d+$", rf"\g<1> = {LAYOUT}", text, flags=re.M)
    shape = r'^(    "%s": \(\d+, \(\d+, \d+, \d+, )\d+'
    for name, entries in OTHER_ENTRIES[LAYOUT].items():
        text, maps = re.subn(shape % name, rf"\g<1>{entries}", text, flags=re.M)
        layouts += maps
    assert layouts == 2 + len(OTHER_ENTRIES[LAYOUT])
    return text


def older_blob(blob):
    """Return the program of the older release, for maps as layout 1 has them."""
    maps = {name: _set_back_shape(name, shape) for name, shape in blob.maps.items()}
    return importlib.import_module(f"{PACKAGE}.program.blob").Blob(
        **{**vars(blob), "maps": maps, "source_sha256": "01" * 32}
    )


def _set_back_shape(name: str, shape: tuple) -> tuple:
    kind, key, value, entries, flags = shape
    return kind, key, value, OTHER_ENTRIES[LAYOUT].get(name, entries), flags


class OlderRouter(Router):
    """The operations of the older release, on the same machine and pins."""

    def _run(self, operation, module: str, check: bool, **given) -> dict:
        module_of = importlib.import_module(f"{PACKAGE}.{operation.__module__.partition('._tproxy.')[2]}")
        system = importlib.import_module(f"{PACKAGE}.system.open_all").open_system()
        result = getattr(module_of, operation.__name__)(options(module, pin_dir=self.pin_dir, **given), system, check)
        return result.as_dict()
