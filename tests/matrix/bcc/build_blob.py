# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the blob of bpf/ as the BCC of another Python compiles it: build_blob.py PYTHON FILE."""

from __future__ import annotations

import pathlib
import sys

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import FUNCTION
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.blob import blob_from_object, source_digest
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.select import compiled_object
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.bcc import Compiler
from ansible_collections.netedge.tproxy.tests.support.program_source import ENTRY, program_source


def main() -> None:
    """Write the blob, print the name of its compiler."""
    python, target = sys.argv[1:]
    files = program_source()
    made = compiled_object(Compiler([python]), files, ENTRY, FUNCTION, {})
    blob = blob_from_object(made, FUNCTION, source_digest(files, ENTRY, FUNCTION, {}))
    path = pathlib.Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(blob.to_json(), encoding="utf-8")
    print(f"{blob.compiler}: {blob.count} instructions")


if __name__ == "__main__":
    main()
