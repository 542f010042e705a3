# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of tproxy_rule: it confirms a change over a new connection."""

from __future__ import annotations

import importlib.util
import pathlib

from ansible.plugins.action import ActionBase

PLUGINS = pathlib.Path(__file__).resolve().parents[1]


class ActionModule(ActionBase):
    """Run the module; with `confirm_timeout`, confirm what it changed."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        """Run the module on the target."""
        super().run(tmp, task_vars)
        return _confirmation().run(self, dict(self._task.args), task_vars)


def _confirmation():
    """Import what all plugins of the collection share from beside this file: it may be a plugin of no collection."""
    path = PLUGINS / "plugin_utils" / "confirmation.py"
    spec = importlib.util.spec_from_file_location("netedge_tproxy_confirmation", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
