#!/usr/bin/env python
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile bpf/ to the blob that the role ships for routers without BCC; with --check only compare.

The collection's own action plugin and rooms do the work, so the blob is what a router would have compiled.
"""

from __future__ import annotations

import importlib.util
import pathlib
import sys

COLLECTION = pathlib.Path(__file__).resolve().parent.parent
TARGET = COLLECTION / "roles" / "tproxy_splicer" / "files" / "tproxy_splicer.json"


def action():
    """Import the action plugin of tc_bpf_attach, which knows how sources travel and where the rooms are."""
    path = COLLECTION / "plugins" / "action" / "tc_bpf_attach.py"
    spec = importlib.util.spec_from_file_location("tc_bpf_attach_action", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build() -> str:
    """Return the blob's text."""
    shipped = action()
    arguments = {"source": shipped.DEFAULT_SOURCE.name, "source_files": shipped.source_files(shipped.DEFAULT_SOURCE)}
    blobs, splicer = shipped.room("_blob"), shipped.room("_splicer")
    digest = blobs.source_digest(arguments["source_files"], arguments["source"], splicer.FUNCTION, {})
    return blobs.blob_from_object(shipped.compile_here(arguments), splicer.FUNCTION, digest).to_json()


def main() -> int:
    """Write or compare; 1 when --check finds a difference."""
    wanted = build()
    if "--check" not in sys.argv:
        TARGET.parent.mkdir(parents=True, exist_ok=True)
        TARGET.write_text(wanted, encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == wanted:
        return 0
    print(f"{TARGET.name} is not what bpf/ compiles to: run `make blob`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
