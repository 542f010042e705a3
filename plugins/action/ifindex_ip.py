# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin of ifindex_ip: it confirms the loss of an own address over a new connection."""

from __future__ import annotations

import importlib.util
import pathlib
from types import ModuleType

from ansible.plugins.action import ActionBase

# Loaded by its path, because this plugin may be loaded outside of any collection.
CONFIRMATION = pathlib.Path(__file__).resolve().parents[1] / "plugin_utils" / "confirmation.py"


class ActionModule(ActionBase):
    """Run the module, and confirm its change."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        """Run the module on the target."""
        super().run(tmp, task_vars)
        return confirmation().run(self, "ifindex_ip", dict(self._task.args), task_vars)


def confirmation() -> ModuleType:
    """Load the code that the action plugins share. runpy fails here: Ansible's path hook looks for a __main__."""
    spec = importlib.util.spec_from_file_location("netedge_tproxy_confirmation", CONFIRMATION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
