# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the checkout importable as ansible_collections.netedge.tproxy, unless ansible-test has done so already."""

from __future__ import annotations

import pathlib
import runpy

_collection = runpy.run_path(str(pathlib.Path(__file__).with_name("support") / "collection.py"))
if not _collection["is_importable"]():
    _collection["register"]()
