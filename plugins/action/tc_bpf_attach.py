# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin of tc_bpf_attach: it sends the program, see plugin_utils/program.py.

It confirms the change over a new connection, see plugin_utils/confirmation.py. It imports nothing of the collection by
name, because the checkout loads it also outside of any collection.
"""

from __future__ import annotations

import importlib.util
import pathlib
from types import ModuleType

from ansible.plugins.action import ActionBase

SHARED = pathlib.Path(__file__).resolve().parents[1] / "plugin_utils"


class ActionModule(ActionBase):
    """Set `source_files`, `compiled` or `blob_content`, and run the module."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        """Run the module on the target with the files that it needs."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("state", "present") == "present":
            shared("program").fill_in(self, arguments)
        return shared("confirmation").run(self, "tc_bpf_attach", arguments, task_vars)


def shared(name: str) -> ModuleType:
    """Load the code that the action plugins share. runpy fails here: Ansible's path hook looks for a __main__."""
    spec = importlib.util.spec_from_file_location(f"netedge_tproxy_{name}", SHARED / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
