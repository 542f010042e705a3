# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What stands before the archive in tproxy-splicer: the script by which a shell starts it.

Python is told at once where the archive is and what to call: `python3 ARCHIVE` would find out by itself, 7 ms later.
Isolated (-I), it reads neither the environment of who calls nor his folder.
"""

from __future__ import annotations

SCRIPT = """\
#!/bin/sh
exec /usr/bin/python3 -I -c '
import sys
sys.path.insert(0, sys.argv[1])
from tproxy_splicer._cli import main
sys.exit(main(sys.argv[1:]))' "$0" "$@"
"""
