# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the place of the get-pip script, which ansible-test would fetch from a server other than the package index.

It lies in ansible-test's cache under the name of that script, beside pip's wheel of the same version, and runs
that wheel's own `install`. The version is read from this file's name: get_pip_24_2.py goes with pip-24.2-*.whl.
"""

from __future__ import annotations

import pathlib
import runpy
import sys

REFUSED_BY_PIP = ("--no-setuptools", "--no-wheel")


def main() -> None:
    # ansible-test runs a wrapper, which runs us: __file__ is the cached script, sys.argv[0] need not be
    here = pathlib.Path(__file__).resolve()
    version = here.stem.replace("get_pip_", "").replace("_", ".")
    wheel = here.with_name(f"pip-{version}-py3-none-any.whl")
    sys.path.insert(0, str(wheel))
    options = [argument for argument in sys.argv[1:] if argument not in REFUSED_BY_PIP]
    sys.argv = ["pip", "install", "--upgrade", "--force-reinstall", *options]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


main()
