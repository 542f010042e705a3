# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make blobs of a good one that are to be refused: spoil.py BLOB FOLDER."""

from __future__ import annotations

import hashlib
import json
import pathlib
import sys


def main() -> None:
    """Write them."""
    text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
    good = json.loads(text)
    spoilt = {
        "damaged": json.dumps({**good, "relocations": good["relocations"][1:]}),
        "cut": text[: len(text) // 2],
        "list": "[]",
        "layout": json.dumps(sealed({**good, "layout": 99})),
    }
    for name, blob in spoilt.items():
        pathlib.Path(sys.argv[2], f"{name}.json").write_text(blob, encoding="utf-8")


def sealed(blob: dict) -> dict:
    """Return the blob with the digest of its contents."""
    body = {key: value for key, value in blob.items() if key != "digest"}
    return {**body, "digest": hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()}


if __name__ == "__main__":
    main()
