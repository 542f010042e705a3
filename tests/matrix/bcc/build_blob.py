# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the blob of bpf/ as the BCC of this Python compiles it: a router of that release gets the same."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import sys

CHECKOUT = pathlib.Path(__file__).resolve().parents[3]


def builder():
    """Import bpf/build_blob.py."""
    spec = importlib.util.spec_from_file_location("build_blob_of_bpf", CHECKOUT / "bpf" / "build_blob.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Write the blob to the file of the first argument; print its compiler."""
    build = builder()
    shipped = build.shipper()
    text = build.build_splicer(shipped, shipped.source_files(shipped.DEFAULT_SOURCE))
    target = pathlib.Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    print(json.loads(text)["compiler"])


if __name__ == "__main__":
    main()
