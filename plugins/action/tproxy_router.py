# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin of tproxy_router: it checks the input, sends the program, and confirms the change.

After the confirmation it runs the module again, which then installs the command line and saves the state. It imports
nothing of the collection by name, because the checkout loads it also outside of any collection.
"""

from __future__ import annotations

import importlib.util
import pathlib
from types import ModuleType
from typing import Any

from ansible.plugins.action import ActionBase

SHARED = pathlib.Path(__file__).resolve().parents[1] / "plugin_utils"


class ActionModule(ActionBase):
    """Refuse faults of the input on the controller, run the module, and confirm its change."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        """Run the module on the target."""
        super().run(tmp, task_vars)
        arguments, faults = shared("router_input").checked(dict(self._task.args))
        if faults:
            return {"failed": True, "changed": False, "msg": shared("router_input").refusal(faults), "faults": faults}
        if arguments.get("state") == "rendered":
            return shared("router_input").rendered(arguments)
        if arguments.get("state", "merged") in ("merged", "replaced"):
            shared("program").fill_in(self, arguments)
        answer = shared("confirmation").run(self, "tproxy_router", arguments, task_vars)
        confirmed = (answer.get("confirm") or {}).get("state") == "confirmed"
        if answer.get("failed") or not (answer.get("deferred") and confirmed):
            return answer
        return self._with_the_rest(answer, arguments, task_vars)

    def _with_the_rest(self, answer: dict[str, Any], arguments: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        """Run the module for the parts that waited for the confirmation. Return both results as one."""
        arguments = {name: value for name, value in arguments.items() if not name.startswith("confirm_")}
        rest = self._execute_module(module_args={**arguments, "confirm_timeout": 0}, task_vars=task_vars)
        if rest.get("failed"):
            words = f"the change is confirmed and in force, but not saved for the next boot: {rest.get('msg')}"
            return {**answer, "failed": True, "msg": words}
        warnings = list(dict.fromkeys([*answer.get("warnings", []), *rest.get("warnings", [])]))
        return {**answer, "deferred": False, **({"warnings": warnings} if warnings else {})}


def shared(name: str) -> ModuleType:
    """Load the code that the action plugins share. runpy fails here: Ansible's path hook looks for a __main__."""
    spec = importlib.util.spec_from_file_location(f"netedge_tproxy_{name}", SHARED / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
