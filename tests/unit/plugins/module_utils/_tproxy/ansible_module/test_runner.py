# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The front end of the modules."""

from __future__ import annotations

import os

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ansible_module import runner

SOURCE_BYTES = 300_000  # more than a pipe holds


def test_a_second_run_takes_long_options_without_a_reader():
    before = os.pipe
    with runner._wide_pipes():
        read, write = os.pipe()
    assert os.pipe is before
    os.set_blocking(write, False)
    assert os.write(write, bytes(SOURCE_BYTES)) == SOURCE_BYTES
    os.close(read)
    os.close(write)
