# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write each example of modules to a file of its own: write_examples.py FOLDER MODULE..., FOLDER/MODULE-NUMBER.yml."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys

COLLECTION = "netedge.tproxy"


def examples_of(modules: list[str]) -> dict[str, list[str]]:
    """Return the examples of each module, as ansible-doc shows them."""
    names = [f"{COLLECTION}.{module}" for module in modules]
    shown = subprocess.run(["ansible-doc", "--json", *names], stdout=subprocess.PIPE, check=True).stdout
    documents = json.loads(shown)
    return {
        module: re.split(r"(?m)^(?=- name: )", documents[f"{COLLECTION}.{module}"]["examples"])[1:]
        for module in modules
    }


def main() -> None:
    """Write the files."""
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir()
    for module, examples in examples_of(sys.argv[2:]).items():
        for number, example in enumerate(examples, 1):
            (folder / f"{module}-{number:02}.yml").write_text(example, encoding="utf-8")
        print(f"{module}: {len(examples)}")


if __name__ == "__main__":
    main()
